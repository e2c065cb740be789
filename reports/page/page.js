"use strict";
// Tables sort by their heading's button and filter by their search field; all else works without a script.
function value(row, column) {
  const cell = row.cells[column];
  const text = cell.firstChild ? cell.firstChild.textContent.trim() : "";
  const number = parseFloat(text.replace(/^[±~]|^n = /, ""));
  return { text, number };
}
function compare(one, other, column, way) {
  const a = value(one, column), b = value(other, column);
  // What has no number stays at the end, whichever way is sorted.
  const missing = Number.isNaN(a.number) - Number.isNaN(b.number);
  if (Number.isNaN(a.number) && Number.isNaN(b.number)) return way * a.text.localeCompare(b.text);
  return missing || way * (a.number - b.number);
}
function sort(table, heading) {
  const column = heading.cellIndex;
  const way = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  for (const other of heading.parentNode.cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", way === 1 ? "ascending" : "descending");
  const body = table.tBodies[0];
  const rows = [...body.rows].sort((one, other) => compare(one, other, column, way));
  body.append(...rows);
}
for (const table of document.querySelectorAll("table[data-sortable]")) {
  for (const button of table.tHead.querySelectorAll("button")) {
    button.addEventListener("click", () => sort(table, button.closest("th")));
  }
}
for (const input of document.querySelectorAll("input[data-filter]")) {
  const rows = document.querySelector(`#${CSS.escape(input.dataset.filter)} tbody`).rows;
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
  });
}
const theme = document.getElementById("theme");
theme.hidden = false;
theme.addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.style.colorScheme
    ? root.style.colorScheme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  root.style.colorScheme = dark ? "light" : "dark";
});
function openTarget() {
  const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const folded = target && target.closest("details");
  if (folded) { folded.open = true; target.scrollIntoView(); }
}
addEventListener("hashchange", openTarget);
openTarget();
let closed = [];
addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll("details:not([open])")];
  for (const one of closed) one.open = true;
});
addEventListener("afterprint", () => { for (const one of closed) one.open = false; });
