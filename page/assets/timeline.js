// Scores over time, under the video of the same container: a click or an arrow key moves the video
// there, and the video's progress is drawn.

const HEIGHT = 150;

function element(name, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function clock(seconds) {
  const tenths = Math.round(seconds * 10);
  return `${Math.floor(tenths / 600)}:${((tenths % 600) / 10).toFixed(1).padStart(4, "0")}`;
}

function draw({ start, end, frames, segments, shapes, threshold, real_below, fake_from }) {
  const span = end - start || 1;
  const x = (seconds) => `${(100 * (seconds - start)) / span}%`;
  const y = (score) => HEIGHT * (1 - score);
  const picture = element("svg", { height: HEIGHT });
  const top = y(Math.min(1, fake_from));
  const bottom = y(Math.max(0, real_below));
  const band = { class: "band", width: "100%", y: top, height: Math.max(0, bottom - top) };
  picture.append(element("rect", band));
  for (const value of [0, 0.5, 1]) {
    picture.append(element("line", { class: "grid", x2: "100%", y1: y(value), y2: y(value) }));
    picture.append(element("text", { x: -7, y: y(value) + 4, "text-anchor": "end" }, String(value)));
  }
  const steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600];
  const step = steps.find((each) => span / each <= 6) ?? span / 5;
  for (let tick = Math.ceil(start / step); tick * step <= end; tick += 1) {
    const place = { x: x(tick * step), y: HEIGHT + 18, "text-anchor": "middle" };
    picture.append(element("text", place, clock(tick * step)));
  }
  const line = { class: "threshold", x2: "100%", y1: y(threshold), y2: y(threshold) };
  picture.append(element("line", line));
  for (const part of segments) {
    const ends = { x1: x(part.start), x2: x(part.end), y1: y(part.score), y2: y(part.score) };
    picture.append(element("line", { class: `segment t${part.person % 8}`, ...ends }));
  }
  const last = new Map();
  for (const frame of frames) {
    const before = last.get(frame.person);
    if (before) {
      const from = { x1: x(before.seconds), y1: y(before.score) };
      const to = { x2: x(frame.seconds), y2: y(frame.score) };
      picture.append(element("line", { class: `link t${frame.person % 8}`, ...from, ...to }));
    }
    last.set(frame.person, frame);
  }
  for (const frame of frames) {
    const kind = `mark t${frame.person % 8}${frame.is_evidence ? " evidence" : ""}`;
    const d = `M${shapes[frame.person % shapes.length].join("L")}Z`;
    const place = { x: x(frame.seconds), y: y(frame.score), overflow: "visible" };
    picture.append(element("svg", place, element("path", { class: kind, d })));
  }
  const head = element("line", { class: "head", y1: -6, y2: HEIGHT + 4, x1: "0%", x2: "0%" });
  picture.append(head);
  return { picture, head, x, span };
}

export default function (component) {
  const { data, parentElement } = component;
  const root = parentElement.querySelector("#timeline");
  const { picture, head, x, span } = draw(data);
  const said = document.createElement("output");
  root.replaceChildren(picture, said);
  const times = [...new Set(data.frames.map((frame) => frame.seconds))].sort((a, b) => a - b);
  const video = () => document.querySelector(`.st-key-${CSS.escape(data.player)} video`);
  let now = data.start;

  picture.setAttribute("tabindex", "0");
  picture.setAttribute("role", "slider");
  picture.setAttribute("aria-label", "Moment of the video; scores over time");
  picture.setAttribute("aria-valuemin", data.start);
  picture.setAttribute("aria-valuemax", data.end);

  function show(seconds) {
    now = seconds;
    head.setAttribute("x1", x(seconds));
    head.setAttribute("x2", x(seconds));
    const close = data.frames.filter((frame) => Math.abs(frame.seconds - seconds) < 0.02 * span);
    const scores = close.map((frame) => frame.score.toFixed(3)).slice(0, 4).join(", ");
    said.value = scores ? `${clock(seconds)} · ${scores}` : clock(seconds);
    picture.setAttribute("aria-valuenow", seconds.toFixed(2));
    picture.setAttribute("aria-valuetext", said.value);
  }
  function jump(seconds) {
    const to = Math.min(data.end, Math.max(data.start, seconds));
    const player = video();
    // Time stamps of a stream that was cut from another may begin late; players begin at 0.
    if (player) player.currentTime = Math.max(0, to - data.offset);
    show(to);
  }
  function nearest(seconds) {
    const near = (best, each) => (Math.abs(each - seconds) < Math.abs(best - seconds) ? each : best);
    return times.length ? times.reduce(near) : seconds;
  }
  const onClick = (event) => {
    const box = picture.getBoundingClientRect();
    jump(nearest(data.start + (span * (event.clientX - box.left)) / box.width));
  };
  const onKey = (event) => {
    const at = times.indexOf(nearest(now));
    const target = {
      ArrowRight: times[at + (times[at] > now ? 0 : 1)],
      ArrowLeft: times[at - (times[at] < now ? 0 : 1)],
      Home: times[0],
      End: times.at(-1),
    }[event.key];
    if (target === undefined) return;
    event.preventDefault();
    jump(target);
  };
  const onProgress = (event) => {
    if (event.target === video()) show(event.target.currentTime + data.offset);
  };
  picture.addEventListener("click", onClick);
  picture.addEventListener("keydown", onKey);
  // Events of a video do not bubble, but they are captured on their way down.
  document.addEventListener("timeupdate", onProgress, true);
  show(data.start);
  return () => document.removeEventListener("timeupdate", onProgress, true);
}
