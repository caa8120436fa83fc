// Conveniences only: every page works without this file.
"use strict";

// "/" puts the cursor into the page's search.
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select");
  const search = document.querySelector("[data-search]");
  if (event.key === "/" && !typing && search) {
    event.preventDefault();
    search.focus();
  }
});

// After a refused form the summary of what is wrong is read first.
document.querySelector("[data-focus]")?.focus();

// A menu closes when something else is clicked, or by Escape.
for (const name of ["click", "keydown"]) {
  document.addEventListener(name, (event) => {
    for (const open of document.querySelectorAll("details.menu[open], details.adds[open]")) {
      if (name === "click" ? !open.contains(event.target) : event.key === "Escape") open.open = false;
    }
  });
}

// A select that filters a list applies at once.
for (const select of document.querySelectorAll("form.search select")) {
  select.addEventListener("change", () => select.form.requestSubmit());
}

// A file may be dropped on the box that takes it.
for (const box of document.querySelectorAll("[data-drop]")) {
  const input = box.querySelector("input[type=file]");
  box.addEventListener("dragover", (event) => { event.preventDefault(); box.classList.add("over"); });
  box.addEventListener("dragleave", () => box.classList.remove("over"));
  box.addEventListener("drop", (event) => {
    event.preventDefault();
    box.classList.remove("over");
    if (event.dataTransfer.files.length) input.files = event.dataTransfer.files;
  });
}

// A change that goes back by itself: how long there is to keep it.
for (const time of document.querySelectorAll("time[data-due]")) {
  const due = new Date(time.dateTime);
  const tell = () => {
    const left = Math.max(0, Math.ceil((due - Date.now()) / 1000));
    time.textContent = time.dataset.due.replace("{time}", due.toLocaleTimeString()).replace("{seconds}", left);
    if (left) setTimeout(tell, 1000);
  };
  tell();
}

// Times are shown where the reader is, with the zone named; what the server wrote is the title. They are written as
// the server writes them, so that nothing moves and no two kinds of date stand on one page.
const zone = new Intl.DateTimeFormat(undefined, { timeZoneName: "short" });
const two = (number) => String(number).padStart(2, "0");
const clock = (at) => `${two(at.getHours())}:${two(at.getMinutes())}`;
const local = (at, seconds) => {
  const date = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  const name = zone.formatToParts(at).find((part) => part.type === "timeZoneName").value;
  return `${date} ${clock(at)}${seconds ? `:${two(at.getSeconds())}` : ""} ${name}`;
};
const tellTimes = () => {
  for (const time of document.querySelectorAll("time[datetime]:not([data-due], [title])")) {
    const moment = new Date(time.dateTime);
    if (!Number.isNaN(moment.valueOf())) {
      time.title = time.textContent.trim();
      time.textContent = local(moment, /:\d\d:\d\d/.test(time.title));
    }
  }
};
tellTimes();
document.addEventListener("refreshed", tellTimes);

// Of many names those that fit what is typed; only the last answer counts.
for (const input of document.querySelectorAll("input[data-choices]")) {
  let last = 0, timer = 0;
  input.addEventListener("input", () => {
    const turn = ++last;
    clearTimeout(timer);
    timer = setTimeout(async () => {
      const url = `/choices/${encodeURIComponent(input.dataset.choices)}/?q=${encodeURIComponent(input.value)}`;
      const answer = await fetch(url, { headers: { Accept: "application/json" } }).catch(() => null);
      if (!answer?.ok || answer.redirected || turn !== last) return;
      const { names } = await answer.json();
      input.list.replaceChildren(...names.map((name) => Object.assign(document.createElement("option"), { value: name })));
    }, 150);
  });
}

// Work that goes on: the page comes anew, unless somebody is typing or marks text. Without scripts it always does.
const reload = document.querySelector("meta[name=reload]");
if (reload) {
  const again = () => {
    const busy = document.activeElement?.matches("input, textarea, select") || String(document.getSelection()) !== "";
    if (busy || document.hidden) setTimeout(again, 1000);
    else location.reload();
  };
  setTimeout(again, Number(reload.content) * 1000);
}
