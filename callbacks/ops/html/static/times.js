// Times in the viewer's own zone, for those who ask for it, remembered in this browser. Without it they are UTC, as the
// server writes them. What says "UTC" next to a time, above a column of times or as the label of one says "local" then.
"use strict";

{
  const KEY = "callbacks-times";
  const button = document.getElementById("times");
  const two = (number) => String(number).padStart(2, "0");

  function read() {
    try {
      return localStorage.getItem(KEY) === "local";
    } catch {
      return false; // storage is off
    }
  }

  let local = read();

  function write(time) {
    const zone = local ? "local" : "UTC";
    if ((time.dataset.zone ?? "UTC") === zone) return;
    time.dataset.zone = zone;
    const at = new Date(time.dateTime);
    const shown = local ? new Date(at - at.getTimezoneOffset() * 60000) : at;
    const day = time.querySelector("span");
    const clock = `${two(shown.getUTCHours())}:${two(shown.getUTCMinutes())}:${two(shown.getUTCSeconds())}`;
    if (day) {
      day.textContent = shown.toISOString().slice(0, 10);
      day.nextSibling.textContent = ` ${clock}`;
    } else {
      time.textContent = clock;
    }
    const after = time.nextSibling;
    if (after?.nodeType === Node.TEXT_NODE) after.textContent = after.textContent.replace(/^ (UTC|local)\b/, ` ${zone}`);
  }

  function name(element, attribute) {
    const zone = local ? ", local" : ", UTC";
    const text = attribute ? element.getAttribute(attribute) : element.textContent;
    const changed = text.replace(/, (UTC|local)$/, zone);
    if (changed === text) return;
    if (attribute) element.setAttribute(attribute, changed);
    else element.textContent = changed;
  }

  function writeAll() {
    document.querySelectorAll("main time[datetime]").forEach(write);
    document.querySelectorAll("main th").forEach((element) => name(element));
    for (const attribute of ["data-label", "data-name"]) {
      document.querySelectorAll(`main [${attribute}]`).forEach((element) => name(element, attribute));
    }
    document.querySelectorAll("main .zone").forEach((element) => {
      const zone = local ? "local" : "UTC";
      if (element.textContent !== zone) element.textContent = zone;
    });
    button.setAttribute("aria-pressed", String(local));
  }

  button.hidden = false;
  button.addEventListener("click", () => {
    local = !local;
    try {
      localStorage.setItem(KEY, local ? "local" : "UTC");
    } catch {
      // It lasts as long as the page.
    }
    writeAll();
  });
  // What live.js adds is UTC.
  new MutationObserver(() => {
    if (local) writeAll();
  }).observe(document.querySelector("main"), { childList: true, subtree: true });
  writeAll();
}
