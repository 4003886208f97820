// Conveniences of the failure and action pages. Every page also works without scripts.
"use strict";

// One checkbox selects all on the page.
for (const head of document.querySelectorAll("table.entries th.tick")) {
  const boxes = head.closest("table").querySelectorAll("td.tick input");
  const all = document.createElement("input");
  all.type = "checkbox";
  all.setAttribute("aria-label", "Select all on this page");
  all.addEventListener("change", () => { for (const box of boxes) box.checked = all.checked; });
  head.replaceChildren(all);
}

// Refresh a running action until it has ended.
const refresh = async () => {
  const shown = document.getElementById("action");
  const address = shown && shown.dataset.refresh;
  if (!address) return;
  try {
    const answer = await fetch(address, { headers: { accept: "text/html" } });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("action");
    if (page && page.dataset.refresh) {
      // Replace only what changes, so that a focused button keeps the focus.
      for (const part of ["[role=status]", "progress"]) {
        const [now, then] = [page.querySelector(part), shown.querySelector(part)];
        if (now && then) then.replaceWith(now);
      }
    } else if (page) {
      shown.replaceWith(page);
    }
  } catch { /* tried again below; the page keeps its last state */ }
  setTimeout(refresh, 1000);
};
setTimeout(refresh, 1000);
