// Writes the figures into the page.

const byId = (id) => document.getElementById(id);
const count = (n) => n.toLocaleString("en");

/** Shows what `/api/figures` told; null where the agent gave no answer. */
export function showFigures(told, cards) {
  if (!told) {
    pill("ready", "bad", "no answer");
    pill("uplink", "", "home unknown");
    list(byId("reasons"), ["The agent does not answer; what is below is what it said last."]);
    return;
  }
  const { figures } = told;
  byId("device").textContent = `${figures.site} / ${figures.device}`;
  document.title = `WALT: ${figures.device}`;
  pill("ready", told.is_ready ? "good" : "bad", told.is_ready ? "ready" : "not ready");
  list(byId("reasons"), told.reasons);
  showUplink(figures.uplink);
  byId("promise").textContent = figures.anonymiser;
  for (const lane of figures.lanes) if (cards.has(lane.camera)) showLane(cards.get(lane.camera).root, lane);
  showSpool(figures.spool);
  showRefused(figures.lanes);
  showModel(figures.model);
  showMachine(figures);
}

function showUplink(uplink) {
  if (!uplink.broker) pill("uplink", "", "no uplink");
  else pill("uplink", uplink.is_connected ? "good" : "bad", uplink.is_connected ? "home connected" : "home not connected");
  byId("uplink").title = uplink.broker;
}

function showLane(root, lane) {
  const hidden = lane.hidden_now ? `, ${lane.hidden_now} of them hidden in part` : "";
  root.querySelector(".now").textContent = `${plural(lane.objects_now, "object")} now${hidden}`;
  terms(root.querySelector(".numbers"), [
    ["frames a second", lane.fps.toFixed(1)],
    ["age, median", milliseconds(lane.frame_age.p50_ms)],
    ["age, p99", milliseconds(lane.frame_age.p99_ms)],
    ["objects followed", count(lane.objects_seen)],
    ["crops chosen", count(lane.crops_chosen)],
  ]);
  const stages = Object.entries(lane.stages);
  root.querySelector(".step").textContent = lane.stages.step ? milliseconds(lane.stages.step.p50_ms) : "";
  const longest = Math.max(...stages.map(([, spread]) => spread.p99_ms), 0.001);
  bars(
    root.querySelector(".stages"),
    stages.map(([name, { p50_ms, p99_ms }]) => ({
      what: name,
      share: p50_ms / longest,
      far: p99_ms / longest,
      value: milliseconds(p50_ms),
      note: `p99 ${milliseconds(p99_ms)}`,
    })),
    "no frame was processed yet",
  );
  const skipped = Object.entries(lane.frames_skipped);
  const received = Math.max(lane.frames_received, 1);
  root.querySelector(".taken").textContent = `${count(lane.frames_processed)} of ${count(lane.frames_received)} processed`;
  bars(root.querySelector(".skipped"), ofCounts([["processed", lane.frames_processed], ...skipped], received), "none yet");
}

function showSpool({ counts, quota_bytes, trouble }) {
  const parts = [["acked", "acknowledged"], ["depth", "waiting"], ["dropped", "dropped"], ["rejected", "rejected"]];
  const line = byId("invariant");
  line.replaceChildren(term("", counts.accepted, "accepted"));
  parts.forEach(([key, word], index) => line.append(" ", term(index ? "+" : "=", counts[key], word)));
  byId("stack").replaceChildren(
    ...parts.filter(([key]) => counts[key]).map(([key]) => {
      const piece = element("i", key);
      piece.style.flexGrow = counts[key];
      return piece;
    }),
  );
  const room = quota_bytes ? `${bytes(counts.bytes)} of ${bytes(quota_bytes)} on disk` : `${bytes(counts.bytes)} on disk`;
  byId("spool").textContent = trouble ? `${room}. It takes nothing: ${trouble}` : room;
  byId("spool").classList.toggle("trouble", Boolean(trouble));
}

function showRefused(lanes) {
  const sums = new Map();
  for (const lane of lanes)
    for (const [reason, n] of Object.entries(lane.refused)) sums.set(reason, (sums.get(reason) ?? 0) + n);
  const sorted = [...sums].sort((a, b) => b[1] - a[1]);
  bars(byId("refused"), ofCounts(sorted, sorted[0]?.[1] ?? 1), "nothing was refused yet");
}

function showModel(model) {
  const local = model.name ? "A bundle of this device" : "None: the eyes without weights";
  byId("model").textContent = model.release ? `Release ${model.release}` : local;
  const note = [model.name, model.runtime];
  if (model.is_on_probation) note.push("on probation");
  if (model.state && model.state !== "active") note.push(model.state);
  if (model.reason) note.push(model.reason);
  byId("model-note").textContent = note.filter(Boolean).join(" · ");
  byId("model-note").classList.toggle("trouble", model.state === "refused");
}

function showMachine({ process, uptime_s, version, uplink }) {
  terms(byId("machine"), [
    ["Up for", duration(uptime_s)],
    ["Memory", process.processes ? `${bytes(process.pss_bytes)} in ${plural(process.processes, "process", "es")}` : "unknown"],
    ["Processor", process.processes ? `${(100 * process.cpu_cores).toFixed(0)}% of one core` : "unknown"],
    ["Home", uplink.broker ? `${uplink.broker}, ${count(uplink.sent)} sent, ${count(uplink.resent)} again` : "none"],
    ["Version", version],
  ], false);
}

function ofCounts(pairs, most) {
  return pairs.map(([what, n]) => ({ what, share: n / most, value: count(n) }));
}

function bars(root, rows, none) {
  if (!rows.length) return root.replaceChildren(element("span", "none", none));
  root.replaceChildren(...rows.flatMap(({ what, share, far, value, note }) => {
    const rail = element("span", "rail");
    if (far !== undefined) rail.append(bar("far", far));
    rail.append(bar("", share));
    const figure = element("span", "value", value);
    if (note) figure.append(" ", element("small", "", note));
    return [element("span", "what", what), rail, figure];
  }));
}

function bar(kind, share) {
  const piece = element("i", kind);
  piece.style.width = `${Math.min(100, 100 * share).toFixed(1)}%`;
  return piece;
}

function term(sign, n, word) {
  const wrap = element("span", "");
  if (sign) wrap.append(element("span", "sign", sign));
  wrap.append(element("b", "", count(n)), ` ${word}`);
  return wrap;
}

function terms(root, pairs, inBoxes = true) {
  root.replaceChildren(...pairs.flatMap(([term, value]) => {
    const both = [element("dt", "", term), element("dd", "", value)];
    if (!inBoxes) return both;
    const wrap = element("div", "");
    wrap.append(...both);
    return [wrap];
  }));
}

function list(root, lines) {
  const told = lines.join("\n");
  if (root.dataset.told === told) return; // Or a screen reader would say it every two seconds.
  root.dataset.told = told;
  root.replaceChildren(...lines.map((line) => element("li", "", line)));
}

function pill(id, kind, text) {
  byId(id).className = `pill ${kind}`;
  byId(id).textContent = text;
}

function element(tag, kind, text) {
  const made = document.createElement(tag);
  if (kind) made.className = kind;
  if (text !== undefined) made.textContent = text;
  return made;
}

const plural = (n, word, ending = "s") => `${count(n)} ${word}${n === 1 ? "" : ending}`;

function milliseconds(ms) {
  if (ms >= 1000) return `${(ms / 1000).toFixed(1)} s`;
  return ms > 0 && ms < 0.1 ? "< 0.1 ms" : `${ms.toFixed(ms < 10 ? 1 : 0)} ms`;
}

function bytes(n) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  const step = Math.min(units.length - 1, n > 0 ? Math.floor(Math.log10(n) / 3) : 0);
  return `${(n / 1000 ** step).toFixed(step ? 1 : 0)} ${units[step]}`;
}

function duration(s) {
  const days = Math.floor(s / 86400);
  const clock = new Date(1000 * (s % 86400)).toISOString().slice(11, 19);
  return days ? `${plural(days, "day")} ${clock}` : clock;
}
