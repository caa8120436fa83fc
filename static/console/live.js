// The live part of a page is fetched again while somebody looks at it. Without this file the page is as it was loaded.
"use strict";

const EVERY = 5000; // milliseconds
const live = document.querySelector("[data-live]");
let etag = null;

const scrolling = (root) => [...root.querySelectorAll("[data-keep-scroll]")];

// Each part in the place of the one before, with the scrolling and the focus that were there.
const replace = (text) => {
  const fresh = new DOMParser().parseFromString(text, "text/html");
  for (const part of live.querySelectorAll("[data-part]")) {
    const other = fresh.querySelector(`[data-part="${part.dataset.part}"]`);
    if (!other) continue;
    const focused = part.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    const scrolled = scrolling(part).map((each) => [each.scrollLeft, each.scrollTop]);
    part.replaceChildren(...other.childNodes);
    scrolling(part).forEach((each, number) => each.scrollTo(...(scrolled[number] || [0, 0])));
    if (focused) part.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  }
  document.dispatchEvent(new Event("refreshed"));
};

const refresh = async () => {
  // Nothing is pulled away from under somebody who marks text, or who does not look.
  const marking = String(document.getSelection()) !== "";
  if (!document.hidden && !marking) {
    try {
      const answer = await fetch(live.dataset.live, { headers: etag ? { "If-None-Match": etag } : {}, redirect: "manual" });
      if (answer.status === 200) {
        etag = answer.headers.get("ETag");
        replace(await answer.text());
      }
      live.classList.toggle("stale", answer.status !== 200 && answer.status !== 304);
    } catch {
      live.classList.add("stale"); // the console does not answer: what is shown is from before
    }
  }
  setTimeout(refresh, EVERY);
};

if (live) setTimeout(refresh, EVERY);
