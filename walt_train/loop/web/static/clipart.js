// Keys for looking through crops: arrows move, `x` rejects, `u` takes back, `s` chooses, space opens.
// Everything is also a form; without this script the page works as well.
const form = document.getElementById("chosen");
const single = document.getElementById("single");
const tiles = [...document.querySelectorAll(".tile")];
const told = document.getElementById("told");

const linkOf = (tile) => tile.querySelector("a");
const boxOf = (tile) => tile.querySelector("input[type=checkbox]");
const isTyping = (element) => /^(SELECT|TEXTAREA)$/.test(element.tagName) || (element.tagName === "INPUT" && element.type !== "checkbox");

function here() {
  return tiles.findIndex((tile) => tile.contains(document.activeElement));
}

/** The tile that an arrow leads to: beside, or the nearest in the row above or below. */
function next(key, at) {
  if (at < 0) return 0;
  if (key === "ArrowLeft") return Math.max(0, at - 1);
  if (key === "ArrowRight") return Math.min(tiles.length - 1, at + 1);
  const top = tiles[0].offsetTop;
  const after = tiles.findIndex((tile) => tile.offsetTop > top);
  const columns = after < 0 ? tiles.length : after;
  const to = key === "ArrowUp" ? at - columns : at + columns;
  return to < 0 || to >= tiles.length ? at : to;
}

function say(words, isBad = false) {
  told.textContent = words;
  told.className = isBad ? "said bad" : "said";
}

/** Sends the form for the chosen tiles, or for the one that has the focus, and marks them as the answer says. */
async function send(path, rejects) {
  const at = here();
  const chosen = tiles.filter((tile) => boxOf(tile)?.checked);
  const wanted = chosen.length ? chosen : at < 0 ? [] : [tiles[at]];
  if (!wanted.length || wanted.some((tile) => tile.classList.contains("busy"))) return;
  const data = new URLSearchParams(wanted.map((tile) => ["crop", tile.dataset.id]));
  if (rejects) data.set("reason", form.elements.reason.value);
  wanted.forEach((tile) => tile.classList.add("busy"));
  try {
    const answer = await fetch(path, {
      method: "POST",
      body: data,
      headers: { accept: "application/json", "x-csrf-token": form.dataset.csrf },
    });
    if (!answer.ok) throw new Error(answer.status === 403 ? "you may not do that, or your session ended" : `the answer was ${answer.status}`);
    mark(wanted, rejects);
    say((await answer.json()).said);
  } catch (error) {
    say(`Nothing was changed: ${error.message}.`, true);
  } finally {
    wanted.forEach((tile) => tile.classList.remove("busy"));
  }
}

function mark(wanted, rejects) {
  for (const tile of wanted) {
    tile.classList.toggle("rejected", rejects);
    tile.querySelector(".mark").textContent = rejects ? "rejected" : "";
    boxOf(tile).checked = false;
  }
}

function onTile(event) {
  const at = here();
  if (event.key.startsWith("Arrow")) {
    event.preventDefault();
    const tile = tiles[next(event.key, at)];
    linkOf(tile).focus();
    tile.scrollIntoView({ block: "nearest" });
  } else if (event.key === " " && at >= 0 && document.activeElement === linkOf(tiles[at])) {
    event.preventDefault();
    linkOf(tiles[at]).click();
  } else if (event.key === "s" && at >= 0 && boxOf(tiles[at])) {
    boxOf(tiles[at]).checked = !boxOf(tiles[at]).checked;
  } else if (event.key === "x" && form.elements.reason) {
    send("/clipart/reject", true);
  } else if (event.key === "u" && form.elements.reason) {
    send("/clipart/undo", false);
  }
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
  if (form && tiles.length) onTile(event);
  const acts = single && { x: "/clipart/reject", u: "/clipart/undo" }[event.key];
  if (acts && single.getAttribute("action") === acts) single.requestSubmit();
});
