// What is known of one video, built when it is opened.

function detail({ row, evidence }) {
  const left = html("div");
  const right = html("div");
  const isMoving = row.frames.some((frame) => frame.pts_seconds !== row.frames[0].pts_seconds);
  if (isMoving) left.append(timeline(row));
  if (row.tracks.length) left.append(tracks(row));
  if (known(row.evidence_path)) left.append(strip(row, evidence));
  right.append(coverage(row), facts("File", fileFacts(row)), facts("Judged with", modelFacts(row)));
  if (row.tracks.length && row.width && row.height) right.append(place(row));
  const columns = left.childElementCount ? [left, right] : [right];
  return html(
    "article",
    { class: "detail" },
    html("header", {}, ...finding(row).map((text) => html("p", {}, text))),
    html("div", { class: "columns" }, ...columns),
  );
}

function finding(row) {
  const remark = known(row.reason) ? visible(row.reason) : "";
  if (!known(row.verdict)) {
    const text = `No verdict: ${plain(row.status)}. ${words.statuses[row.status] ?? ""}`;
    return remark ? [text, `Reason: ${remark}`] : [text];
  }
  const value = score(row.score);
  const [real, fake] = [score(row.real_below), score(row.fake_from)];
  const sentence = {
    fake: `Fake: the score ${value} has reached ${fake}.`,
    real: `Real: the score ${value} is below ${real}.`,
    inconclusive:
      `Inconclusive: the score ${value} lies between ${real} and ${fake}, ` +
      "where the model abstains.",
  }[row.verdict];
  const meant = (flag) => words.flags[flag] ?? visible(plain(flag));
  const flags = row.quality_flags.map(meant).join("; ");
  return [
    html("span", { class: `verdict ${row.verdict}` }, sentence),
    ...(flags ? [`Less certain than the score says: ${flags}.`] : []),
    ...(remark ? [`Remark: ${remark}`] : []),
  ];
}

// A track keeps its place in the list of tracks as colour and shape, in every picture.
// None of them is a verdict's.
const SHAPES = [
  "M-3.7-3.7h7.4v7.4h-7.4Z",
  "M-1.6-4.8h3.2v3.2h3.2v3.2h-3.2v3.2h-3.2v-3.2h-3.2v-3.2h3.2Z",
  "M0-5.6L1.5-2L5.3-1.7L2.4.8L3.3 4.5L0 2.5L-3.3 4.5L-2.4.8L-5.3-1.7L-1.5-2Z",
  "M-4.6-4.2L4.6 4.2V-4.2L-4.6 4.2Z",
];
const rank = (row, id) => Math.max(0, row.tracks.findIndex((track) => track.track_id === id));
const colour = (row, id) => `t${rank(row, id) % 8}`;
const shape = (row, id) => SHAPES[rank(row, id) % SHAPES.length];

function section(title, ...children) {
  return html("section", {}, html("h3", {}, title), ...children);
}

function timeline(row) {
  const height = 170;
  const times = row.frames.map((frame) => frame.pts_seconds);
  const [first, last] = [Math.min, Math.max].map((pick) => times.reduce((a, b) => pick(a, b)));
  // A clip cut from a longer one may keep that one's clock.
  const start = first > (row.duration_seconds ?? 0) ? first : 0;
  const span = Math.max(last - start, row.duration_seconds ?? 0) || 1;
  const x = (time) => `${(100 * (time - start)) / span}%`;
  const y = (value) => height * (1 - value);
  const picture = svg("svg", { class: "plot", height: height + 22, role: "img" });
  picture.setAttribute("aria-label", `Scores over time: ${several(times.length, "frame")}`);
  const line = (attributes) => picture.append(svg("line", attributes));

  if (known(row.threshold)) {
    const [top, bottom] = [y(Math.min(1, row.fake_from)), y(Math.max(0, row.real_below))];
    const thickness = Math.max(0, bottom - top);
    picture.append(svg("rect", { class: "band", width: "100%", y: top, height: thickness }));
  }
  for (const value of [0, 0.5, 1]) {
    line({ class: "grid", x2: "100%", y1: y(value), y2: y(value) });
    picture.append(svg("text", { x: -7, y: y(value) + 4, "text-anchor": "end" }, String(value)));
  }
  const steps = [0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600];
  const step = steps.find((each) => span / each <= 7) ?? span / 5;
  for (let tick = Math.ceil(start / step); tick * step <= start + span; tick += 1) {
    const label = clock(tick * step, step < 0.1 ? 2 : step < 1 ? 1 : 0);
    const place = { x: x(tick * step), y: height + 17, "text-anchor": "middle" };
    picture.append(svg("text", place, label));
  }
  if (known(row.threshold)) {
    line({ class: "threshold", x2: "100%", y1: y(row.threshold), y2: y(row.threshold) });
  }
  for (const part of row.segments.filter((each) => known(each.score))) {
    const { start_seconds: from, end_seconds: to } = part;
    const ends = { x1: x(from), x2: x(to), y1: y(part.score), y2: y(part.score) };
    const title = svg("title", {}, `${clock(from)} to ${clock(to)}: ${score(part.score)}`);
    picture.append(svg("line", { class: `segment ${colour(row, part.track_id)}`, ...ends }, title));
  }
  const judged = row.frames.filter((frame) => known(frame.score));
  judged.forEach((frame, index) => {
    const next = judged[index + 1];
    if (next?.track_id !== frame.track_id) return;
    const from = { x1: x(frame.pts_seconds), y1: y(frame.score) };
    const to = { x2: x(next.pts_seconds), y2: y(next.score) };
    line({ class: `link ${colour(row, frame.track_id)}`, ...from, ...to });
  });
  for (const frame of judged) {
    picture.append(mark(row, frame, x(frame.pts_seconds), y(frame.score)));
  }

  const caption =
    "Marks: what each frame says alone, not calibrated; outlined where its face is shown below. " +
    "Bars: stretches judged together, calibrated like the video. " +
    (known(row.threshold) ? "Dashed: the threshold. " : "") +
    (row.real_below < row.fake_from ? "Shaded: inconclusive." : "");
  return section("Over time", picture, html("p", { class: "caption" }, caption));
}

function mark(row, frame, x, y) {
  const kind = `mark ${colour(row, frame.track_id)}${frame.is_evidence ? " evidence" : ""}`;
  const share = known(frame.weight) ? `, weight ${frame.weight.toFixed(3)}` : "";
  const place = `track ${frame.track_id}, frame ${frame.frame_index}, ${clock(frame.pts_seconds)}`;
  const text = `${place}: ${score(frame.score)}${share}`;
  const path = svg("path", { class: kind, d: shape(row, frame.track_id) }, svg("title", {}, text));
  return svg("svg", { x, y, overflow: "visible" }, path);
}

function tracks(row) {
  const swatch = (id) =>
    svg("svg", { class: "swatch", width: 10, height: 10, viewBox: "-5 -5 10 10" },
      svg("path", { class: `mark ${colour(row, id)}`, d: shape(row, id) }));
  const names = ["face track", "from", "to", "frames", "score"];
  names.push("box (x1 y1 x2 y2)", "face, px", "sharpness", "brightness");
  const lines = row.tracks.map((track) => {
    const cells = [
      known(track.start_seconds) ? clock(track.start_seconds) : "",
      known(track.end_seconds) ? clock(track.end_seconds) : "",
      digits(track.num_frames, 0),
      score(track.score),
      (track.box_xyxy ?? []).map((value) => digits(value, 0)).join(" "),
      digits(track.face_pixels, 0),
      digits(track.sharpness, 0),
      digits(track.brightness, 0),
    ];
    const name = html("td", {}, swatch(track.track_id), String(track.track_id));
    return html("tr", {}, name, ...cells.map((text) => html("td", {}, text)));
  });
  const head = html("tr", {}, ...names.map((name) => html("th", { scope: "col" }, name)));
  return section(
    "Faces, the most suspicious first",
    html("div", { class: "scroll" },
      html("table", { class: "tracks" }, html("thead", {}, head), html("tbody", {}, ...lines))),
  );
}

function strip(row, evidence) {
  const title = "Most telling frames";
  if (evidence === null) {
    const name = visible(row.evidence_path);
    const text = `The picture ${name} was not there when this page was made.`;
    return section(title, html("p", { class: "caption" }, text));
  }
  const ids = row.tracks.map((track) => track.track_id);
  const shown = (id) => row.frames.filter((frame) => frame.is_evidence && frame.track_id === id);
  const people = ids.map(shown).filter((frames) => frames.length);
  // A row of faces per person, and below the first one its heat maps, if any.
  const side = evidence.width / Math.max(...people.map((frames) => frames.length));
  const numRows = evidence.height / side;
  const hasHeat = numRows === people.length + 1;
  if (!Number.isInteger(side) || (numRows !== people.length && !hasHeat)) {
    const { uri, width, height } = evidence;
    const picture = html("img", { src: uri, width, height, alt: "Crops of faces" });
    return section(title, html("div", { class: "strip whole" }, picture));
  }
  const lists = people.map((frames, person) => {
    const isHeated = hasHeat && person === 0;
    const top = person + (hasHeat && person > 0 ? 1 : 0);
    const crops = frames.map((frame, index) => {
      const time = clock(frame.pts_seconds);
      const alt = `Face of track ${frame.track_id} at ${time}${isHeated ? ", heat map below" : ""}`;
      const height = isHeated ? 2 * side : side;
      const picture = html("img", { src: evidence.uri, width: side, height, alt });
      picture.style.objectPosition = `${-index * side}px ${-top * side}px`;
      const said = `track ${frame.track_id}, ${score(frame.score)}`;
      return html("li", { class: "crop" }, picture, time, html("div", { class: "muted" }, said));
    });
    return html("ol", { class: "strip" }, ...crops);
  });
  const caption =
    (people.length > 1
      ? "The frames on which each face looks most fake, the most suspicious face first."
      : "The frames on which the most suspicious face looks most fake.") +
    (hasHeat
      ? ` Below${people.length > 1 ? " its pictures" : ""}: the parts of the face that lower ` +
        "this when they are blurred away. That shows where a score comes from; it proves nothing."
      : "") +
    (people.length < ids.length ? " Of the others no pictures were kept." : "");
  return section(title, ...lists, html("p", { class: "caption" }, caption));
}

function place(row) {
  const sight = { role: "img", "aria-label": "Boxes of the faces within the picture" };
  const size = { viewBox: `0 0 ${row.width} ${row.height}`, width: row.width };
  const picture = svg("svg", { class: "place", ...sight, ...size });
  for (const { track_id: id, box_xyxy: box } of row.tracks) {
    if (!box) continue;
    const [x, y] = box;
    const sides = { width: Math.max(0, box[2] - x), height: Math.max(0, box[3] - y) };
    picture.append(svg("g", { class: colour(row, id) }, svg("rect", { x, y, ...sides })));
  }
  return section("Where the faces are", picture);
}

function coverage(row) {
  const parts = [];
  if (known(row.num_frames_sampled)) {
    const all = known(row.num_frames) ? ` out of ${whole(row.num_frames)}` : "";
    parts.push(`The decoder was asked for ${several(row.num_frames_sampled, "frame")}${all}.`);
  }
  if (known(row.num_frames_decoded)) parts.push(`It gave ${whole(row.num_frames_decoded)}.`);
  if (known(row.num_frames_with_face)) {
    parts.push(`A face is on ${whole(row.num_frames_with_face)} of them.`);
  }
  if (known(row.num_faces)) parts.push(`${several(row.num_faces, "face")} could be followed.`);
  if (known(row.num_frames_used)) {
    parts.push(`The model judged ${several(row.num_frames_used, "crop")}.`);
  }
  return section("What was looked at", html("p", {}, parts.join(" ") || "No frame."));
}

function fileFacts(row) {
  return [
    ["picture", row.width && row.height ? `${row.width} × ${row.height}` : null],
    ["length", known(row.duration_seconds) ? clock(row.duration_seconds) : null],
    ["frames", known(row.num_frames) ? whole(row.num_frames) : null],
    ["frames per second", known(row.average_fps) ? String(+row.average_fps.toFixed(3)) : null],
    ["codec", row.codec],
    ["container", row.container],
    ["file size", known(row.size_bytes) ? bytes(row.size_bytes) : null],
    ["folder", row.root],
    ["SHA-256", row.video_id],
  ];
}

function modelFacts(row) {
  const snap = row.largest_snap_seconds;
  const spent = words.stages
    .filter(([column]) => known(row[column]))
    .map(([column, work]) => `${work} ${row[column].toFixed(2)} s`);
  return [
    ["logit", known(row.logit) ? row.logit.toPrecision(5) : null],
    ["model", row.model_id],
    ["settings hash", row.preprocessing_hash],
    ["decoder", row.decoder],
    ["packets decoded", known(row.num_packets_decoded) ? whole(row.num_packets_decoded) : null],
    ["frames moved by", known(snap) ? `at most ${clock(snap)}` : null],
    ["turned to find faces", row.head_rotation ? `${row.head_rotation}°` : null],
    ["processor time", spent.length ? spent.join(", ") : null],
  ];
}

function facts(title, pairs) {
  const lines = pairs.filter(([, text]) => known(text));
  const pair = ([name, text]) => [html("dt", {}, name), html("dd", {}, visible(text))];
  return section(title, html("dl", {}, ...lines.flatMap(pair)));
}
