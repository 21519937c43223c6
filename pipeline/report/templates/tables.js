"use strict";
// Sorts and filters tables. Without it they read as they stand.

const FEWEST_TO_FILTER = 8;

/** What a cell is sorted by: a number where it holds one, else its text; null where it is empty. */
function key(cell) {
  const text = cell.dataset.value ?? cell.textContent.trim();
  if (text === "" || text === "–") return null;
  const number = Number(text.replaceAll(",", "").replace("\u2212", "-"));
  return Number.isNaN(number) ? text.toLowerCase() : number;
}

/** Whether `first` stands before `second` in ascending order; cells without anything stand last in either order. */
function compare(first, second, sign) {
  if (first === null || second === null) return (first === null) - (second === null);
  if (typeof first === "number" && typeof second === "number") return sign * (first - second);
  return sign * String(first).localeCompare(String(second), "en", { numeric: true });
}

function sortable(table, rows) {
  const body = table.tBodies[0];
  const heads = Array.from(table.tHead.rows[0].cells);
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    button.setAttribute("aria-label", `Sort by ${(head.querySelector("a, .method") ?? head).textContent.trim()}`);
    button.addEventListener("click", () => {
      const next = { none: "ascending", ascending: "descending", descending: "none" };
      const order = next[head.getAttribute("aria-sort") ?? "none"];
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      const sign = order === "descending" ? -1 : 1;
      const sorted = rows.map((row) => [key(row.cells[column]), row]);
      if (order !== "none") {
        head.setAttribute("aria-sort", order);
        sorted.sort(([first], [second]) => compare(first, second, sign));
      }
      body.append(...sorted.map(([, row]) => row));
    });
    head.insertBefore(button, head.querySelector(".column, .count"));
  });
}

function filterable(frame, rows) {
  const label = document.createElement("label");
  const field = document.createElement("input");
  const count = document.createElement("output");
  label.className = "filter";
  field.type = "search";
  label.append("Filter rows ", field, count);
  field.addEventListener("input", () => {
    const words = field.value.trim().toLowerCase();
    rows.forEach((row) => {
      row.hidden = !row.textContent.toLowerCase().includes(words);
    });
    count.textContent = words ? `${rows.filter((row) => !row.hidden).length} of ${rows.length}` : "";
  });
  frame.before(label);
}

document.querySelectorAll("table.sortable").forEach((table) => {
  const rows = Array.from(table.tBodies[0].rows);
  if (rows.length > 1) sortable(table, rows);
  if (rows.length >= FEWEST_TO_FILTER) filterable(table.closest(".wide"), rows);
});
