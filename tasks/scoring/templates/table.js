// Sorting, filtering and opening rows of the table.

const table = document.getElementById("videos");
const form = document.querySelector(".filters");
const heads = [...table.tHead.rows[0].cells];
const videos = [...table.tBodies].map((body) => ({
  body,
  row: body.rows[0],
  link: body.querySelector("a"),
  path: body.querySelector("a").textContent.toLowerCase(),
}));
const byNumber = new Map(videos.map((video) => [video.body.dataset.n, video]));
const collator = new Intl.Collator("en", { numeric: true });

function sortBy(column) {
  const head = heads[column];
  const isNumber = head.classList.contains("number");
  const first = isNumber ? "descending" : "ascending";
  const other = isNumber ? "ascending" : "descending";
  const direction = head.getAttribute("aria-sort") === first ? other : first;
  heads.forEach((each) => each.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", direction);
  const sign = direction === "ascending" ? 1 : -1;
  const keyed = videos.map((video) => {
    const cell = video.row.cells[column];
    return [isNumber ? cell.dataset.v : cell.textContent, video.body];
  });
  keyed.sort(([a], [b]) => {
    if (a === "" || b === "") return (a === "") - (b === ""); // nothing known: always last
    return sign * (isNumber ? a - b : collator.compare(a, b));
  });
  table.append(...keyed.map(([, body]) => body));
}

function filter() {
  const { text, verdict, status } = form.elements;
  const wanted = text.value.trim().toLowerCase();
  let shown = 0;
  for (const { body, path } of videos) {
    body.hidden = !(
      path.includes(wanted) &&
      (verdict.value === "" || verdict.value === body.dataset.verdict) &&
      (status.value === "" || status.value === body.dataset.status)
    );
    shown += !body.hidden;
  }
  document.getElementById("nothing").hidden = shown > 0;
  form.querySelector("output").value =
    (shown === videos.length ? "" : `${whole(shown)} of `) + several(videos.length, "file");
}

function toggle(video) {
  const isOpen = video.body.classList.toggle("open");
  video.link.setAttribute("aria-expanded", isOpen);
  if (video.body.rows.length === 1) {
    const data = JSON.parse(document.getElementById(`video-${video.body.dataset.n}`).textContent);
    video.body.append(html("tr", {}, html("td", { colspan: heads.length }, detail(data))));
  } else {
    video.body.rows[1].hidden = !isOpen;
  }
  history.replaceState(null, "", isOpen ? `#video=${video.body.dataset.n}` : "#");
}

function openFromAddress() {
  const video = byNumber.get(location.hash.replace("#video=", ""));
  if (!video) return;
  video.body.hidden = false;
  if (!video.body.classList.contains("open")) toggle(video);
  video.body.scrollIntoView();
  // Rows above get their true height when they come near.
  requestAnimationFrame(() => video.body.scrollIntoView());
}

// What the reader does

heads.forEach((head, column) => {
  head.firstElementChild.addEventListener("click", () => sortBy(column));
});
form.addEventListener("input", filter);
form.addEventListener("submit", (event) => event.preventDefault());
table.addEventListener("click", (event) => {
  const row = event.target.closest("#videos > tbody > tr:first-child");
  if (!row || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  // From the keyboard (detail 0) nobody selects text with this.
  const isSelecting = event.detail > 0 && !getSelection().isCollapsed;
  if (!isSelecting) toggle(byNumber.get(row.parentElement.dataset.n));
});
addEventListener("hashchange", openFromAddress);
filter();
openFromAddress();
