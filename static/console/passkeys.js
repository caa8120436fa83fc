// Passkeys: hands the server's question to the browser and its answer back to the form that carries it.
"use strict";

const bytes = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
const text = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer)))
  .replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
const known = (list) => list?.map((each) => ({ ...each, id: bytes(each.id) }));

async function make(question) {
  const made = await navigator.credentials.create({ publicKey: {
    ...question,
    challenge: bytes(question.challenge),
    user: { ...question.user, id: bytes(question.user.id) },
    excludeCredentials: known(question.excludeCredentials),
  } });
  return answer(made, {
    attestationObject: text(made.response.attestationObject),
    transports: made.response.getTransports?.() ?? [],
  });
}

async function prove(question) {
  const used = await navigator.credentials.get({ publicKey: {
    ...question,
    challenge: bytes(question.challenge),
    allowCredentials: known(question.allowCredentials),
  } });
  return answer(used, {
    authenticatorData: text(used.response.authenticatorData),
    signature: text(used.response.signature),
    userHandle: used.response.userHandle ? text(used.response.userHandle) : null,
  });
}

function answer(credential, response) {
  return JSON.stringify({
    id: credential.id,
    rawId: text(credential.rawId),
    type: credential.type,
    clientExtensionResults: credential.getClientExtensionResults(),
    response: { ...response, clientDataJSON: text(credential.response.clientDataJSON) },
  });
}

for (const form of document.querySelectorAll("form[data-passkey]")) {
  if (!window.PublicKeyCredential) continue;
  form.hidden = false;
  const problem = form.querySelector("[data-problem]");
  form.addEventListener("submit", async (event) => {
    if (form.elements.answer.value) return;
    event.preventDefault();
    problem.textContent = "";
    try {
      const question = JSON.parse(form.dataset.question);
      form.elements.answer.value = await (form.dataset.passkey === "make" ? make : prove)(question);
      form.requestSubmit();
    } catch (error) {
      problem.textContent = error.name === "NotAllowedError"
        ? form.dataset.cancelled
        : form.dataset.failed.replace("{reason}", error.message);
    }
  });
}
