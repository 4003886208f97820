// What makes the lists and the acts handier where scripts run; without them every page works as well.
"use strict";

// One box ticks all of a page.
for (const head of document.querySelectorAll("table.entries th.tick")) {
  const boxes = head.closest("table").querySelectorAll("td.tick input");
  const all = document.createElement("input");
  all.type = "checkbox";
  all.setAttribute("aria-label", "Tick all on this page");
  all.addEventListener("change", () => { for (const box of boxes) box.checked = all.checked; });
  head.replaceChildren(all);
}

// An act that is under way is looked at again, until it has ended.
const again = async () => {
  const shown = document.getElementById("action");
  const address = shown && shown.dataset.refresh;
  if (!address) return;
  try {
    const answer = await fetch(address, { headers: { accept: "text/html" } });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("action");
    if (page && page.dataset.refresh) {
      // Only what changes, so that the button that is in focus stays.
      for (const part of ["[role=status]", "progress"]) {
        const [now, then] = [page.querySelector(part), shown.querySelector(part)];
        if (now && then) then.replaceWith(now);
      }
    } else if (page) {
      shown.replaceWith(page);
    }
  } catch { /* asked again below: the page says what it knew last */ }
  setTimeout(again, 1000);
};
setTimeout(again, 1000);
