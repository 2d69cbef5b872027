"use strict";
// Sorting by a column, and showing only the rows that match. Without this the table is there all the same, worst first.
const table = document.getElementById("utterances");
const body = table.tBodies[0];
const rows = Array.from(body.rows);
const search = document.getElementById("search");
const wrong = document.getElementById("wrong");
const count = document.getElementById("count");

// Numbers from the highest down first, texts from A on; a second time the other way round.
function sort(header) {
  const numbers = header.classList.contains("number");
  const [first, second] = numbers ? ["descending", "ascending"] : ["ascending", "descending"];
  const order = header.getAttribute("aria-sort") === first ? second : first;
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", order);
  const key = (row) => row.cells[header.cellIndex].dataset.key;
  const compare = numbers ? (a, b) => key(a) - key(b) : (a, b) => key(a).localeCompare(key(b));
  rows.sort((a, b) => (order === "descending" ? -1 : 1) * compare(a, b));
  body.append(...rows);
}

function filter() {
  const words = search.value.toLowerCase();
  let shown = 0;
  for (const row of rows) {
    row.hidden = !row.dataset.text.toLowerCase().includes(words) || (wrong.checked && row.dataset.errors === "0");
    shown += row.hidden ? 0 : 1;
  }
  count.textContent = `${shown} of ${rows.length} shown`;
}

for (const button of table.tHead.querySelectorAll("button")) {
  button.addEventListener("click", () => sort(button.closest("th")));
}
search.addEventListener("input", filter);
wrong.addEventListener("change", filter);
document.getElementById("controls").hidden = false;
filter();
