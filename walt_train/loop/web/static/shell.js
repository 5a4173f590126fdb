// Comfort alone: every page works without it. Keys: `/` goes to the search, `g` and a letter to a page, `?` to help,
// `Escape` closes the account's menu.
const PAGES = { f: "/fleet", r: "/rollouts", t: "/runs", c: "/clipart", l: "/label", a: "/audit", p: "/people", h: "/help" };
const PATIENCE_MS = 1500;
let waitsSince = -Infinity;

function isTyping(element) {
  return element.isContentEditable || /^(INPUT|SELECT|TEXTAREA)$/.test(element.tagName);
}

function isShown(href) {
  return href === "/help" || document.querySelector(`.bar nav a[href="${href}"]`) !== null;
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const account = document.getElementById("account");
  if (event.key === "Escape" && account?.open) {
    account.open = false;
    account.querySelector("summary").focus();
    return;
  }
  if (isTyping(event.target)) return;
  const search = document.querySelector("[data-search], input[type=search]");
  if (event.key === "/" && search) {
    event.preventDefault();
    search.focus();
    search.select?.();
  } else if (event.key === "?") {
    location.assign("/help");
  } else if (event.key === "g") {
    waitsSince = event.timeStamp;
  } else if (event.timeStamp - waitsSince < PATIENCE_MS && event.key in PAGES && isShown(PAGES[event.key])) {
    event.preventDefault();
    location.assign(PAGES[event.key]);
  }
});

document.addEventListener("click", (event) => {
  const account = document.getElementById("account");
  if (account?.open && !account.contains(event.target)) account.open = false;
});

// A form that says so asks before it is sent.
document.addEventListener("submit", (event) => {
  const asks = event.target.dataset.confirm;
  if (asks && !window.confirm(asks)) event.preventDefault();
});
