// Keep a page up to date: replace its content by the HTML that the server sends.
//   data-follow="URL"   the element to update; data-form="ID" names a form whose fields are sent with the request
//   data-pause="ID"     the button that pauses updates
// fetch reads the stream, not EventSource: the form is posted, so that no phone number appears in a URL.
"use strict";

const RETRY_MS = 3000;
const MAX_ROWS = 200;

const target = document.querySelector("[data-follow]");
const state = document.querySelector("[data-state]");
const pause = document.getElementById(target.dataset.pause);
const form = document.getElementById(target.dataset.form);
let stopped = new AbortController();
let paused = false;

function showState(text) {
  if (state.textContent !== text) state.textContent = text;
}

function parsed(html) {
  return new DOMParser().parseFromString(html, "text/html").body;
}

// Only the parts that differ are replaced, so that a selection or the focus elsewhere stays.
function replace(html) {
  const fresh = parsed(html);
  const same = fresh.children.length === target.children.length
    && [...fresh.children].every((part, index) => part.id === target.children[index].id);
  if (!same) {
    target.replaceChildren(...fresh.childNodes);
    return;
  }
  [...fresh.children].forEach((part, index) => {
    const old = target.children[index];
    for (const details of part.querySelectorAll("details[id]")) details.open = document.getElementById(details.id)?.open ?? false;
    if (old.isEqualNode(part)) return;
    const focused = old.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    old.replaceWith(part);
    if (focused) [...part.querySelectorAll("a")].find((link) => link.getAttribute("href") === focused)?.focus({ preventScroll: true });
  });
}

// The heading is replaced with its section, which a screen reader does not announce: a live region repeats it.
function replaceAll(html) {
  replace(html);
  // The first is of all cells, if there are some.
  const summary = target.querySelector("[data-words]");
  showState(summary?.dataset.outdated ?? "Updated automatically.");
  const spoken = document.getElementById("announcement");
  if (!summary || !spoken || summary.dataset.words === spoken.dataset.words) return;
  spoken.textContent = spoken.dataset.words = summary.dataset.words;
  document.title = `Now: ${summary.dataset.words} · Callbacks`;
  document.querySelector("link[rel=icon]").href = summary.dataset.icon;
}

function add(html) {
  target.prepend(...parsed(`<table><tbody>${html}</tbody></table>`).querySelectorAll("tr"));
  while (target.children.length > MAX_ROWS) target.lastElementChild.remove();
}

function begin(html) {
  target.replaceChildren();
  add(html);
}

// While nothing new can come, what is shown is grey.
function showFeed(text, outdated) {
  showState(text);
  state.classList.toggle("problem", outdated);
  target.closest("section").classList.toggle("stale", outdated);
}

const receive = {
  html: replaceAll, all: begin, rows: add, state: (text) => showFeed(text, false), outdated: (text) => showFeed(text, true),
};

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
      const answer = await fetch(target.dataset.follow, {
        method: form ? "POST" : "GET", body, signal: own.signal, headers: { accept: "text/event-stream" },
      });
      if (answer.status === 401 || answer.status === 403) {
        location.reload();
        return;
      }
      if (answer.ok) {
        showState("Updated automatically.");
        await read(answer);
      }
    } catch {
      if (own.signal.aborted) return;
    }
    if (!own.signal.aborted) {
      showState("Connection lost: this may be out of date. Reconnecting…");
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}

pause.hidden = false;
pause.addEventListener("click", () => {
  paused = !paused;
  pause.setAttribute("aria-pressed", String(paused));
  pause.textContent = paused ? "Resume" : "Pause";
  if (paused) {
    stopped.abort();
    showState("Paused: this is not updated.");
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
