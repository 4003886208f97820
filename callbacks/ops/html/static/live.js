// Keeps a page up to date with what the server sends: HTML that it has made, put in place of what stood there before.
//   data-follow="URL"   the element that is kept up to date; in a form's page, data-form="ID" names what is sent along
//   data-pause="ID"     the button that stops it
// The stream is read with fetch, not EventSource: its form is posted, so that no number of a person stands in a URL.
"use strict";

const RETRY_MS = 3000;
const MOST_ROWS = 200;

const place = document.querySelector("[data-follow]");
const state = document.querySelector("[data-state]");
const pause = document.getElementById(place.dataset.pause);
const form = document.getElementById(place.dataset.form);
let stopped = new AbortController();
let paused = false;

function say(text) {
  if (state.textContent !== text) state.textContent = text;
}

function parsed(html) {
  return new DOMParser().parseFromString(html, "text/html").body;
}

// Only the parts that differ are replaced, so that a selection or the focus elsewhere stays.
function replace(html) {
  const fresh = parsed(html);
  const same = fresh.children.length === place.children.length
    && [...fresh.children].every((part, index) => part.id === place.children[index].id);
  if (!same) {
    place.replaceChildren(...fresh.childNodes);
    return;
  }
  [...fresh.children].forEach((part, index) => {
    const old = place.children[index];
    if (old.isEqualNode(part)) return;
    const focused = old.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    old.replaceWith(part);
    if (focused) [...part.querySelectorAll("a")].find((link) => link.getAttribute("href") === focused)?.focus({ preventScroll: true });
  });
}

function add(html) {
  place.prepend(...parsed(`<table><tbody>${html}</tbody></table>`).querySelectorAll("tr"));
  while (place.children.length > MOST_ROWS) place.lastElementChild.remove();
}

function begin(html) {
  place.replaceChildren();
  add(html);
}

const receive = { html: replace, all: begin, rows: add, state: say };

function take(block) {
  let name = "";
  const lines = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("event: ")) name = line.slice(7);
    else if (line.startsWith("data: ")) lines.push(line.slice(6));
  }
  if (name in receive) receive[name](lines.join("\n"));
}

async function read(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    if (!paused) blocks.forEach(take);
  }
}

async function follow() {
  stopped.abort();
  stopped = new AbortController();
  const own = stopped;
  while (!own.signal.aborted) {
    try {
      const body = form ? new URLSearchParams(new FormData(form)) : undefined;
      const answer = await fetch(place.dataset.follow, {
        method: form ? "POST" : "GET", body, signal: own.signal, headers: { accept: "text/event-stream" },
      });
      if (answer.status === 401 || answer.status === 403) {
        location.reload();
        return;
      }
      if (answer.ok) {
        say("Up to date by itself.");
        await read(answer);
      }
    } catch {
      if (own.signal.aborted) return;
    }
    if (!own.signal.aborted) {
      say("No connection: this is old. Trying again…");
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}

pause.hidden = false;
pause.addEventListener("click", () => {
  paused = !paused;
  pause.setAttribute("aria-pressed", String(paused));
  pause.textContent = paused ? "Go on" : "Pause";
  if (paused) {
    stopped.abort();
    say("Paused: this is how it was.");
  } else {
    follow();
  }
});
form?.addEventListener("submit", (submitted) => {
  submitted.preventDefault();
  if (paused) pause.click();
  else follow();
});
addEventListener("pagehide", () => stopped.abort());
addEventListener("pageshow", (shown) => { if (shown.persisted && !paused) follow(); });
follow();
