// Keeps a part of the page as it is now: asks for it again while somebody looks. Without it, reload the page.
const MOST_MS = 120_000;

for (const place of document.querySelectorAll("[data-live]")) {
  const every = 1000 * Number(place.dataset.every);
  let wait = every;
  let timer = 0;

  // What the reader has opened, and where the keyboard is, stays as it was.
  const put = (text) => {
    const open = new Map([...place.querySelectorAll("details[id]")].map((one) => [one.id, one.open]));
    const focused = document.activeElement?.closest("[data-live]") === place ? document.activeElement.id : "";
    const scrolled = new Map([...place.querySelectorAll(".log, .table")].map((one, n) => [n, [one.scrollLeft, one.scrollTop]]));
    place.innerHTML = text;
    for (const one of place.querySelectorAll("details[id]")) if (open.has(one.id)) one.open = open.get(one.id);
    place.querySelectorAll(".log, .table").forEach((one, n) => {
      [one.scrollLeft, one.scrollTop] = scrolled.get(n) ?? [0, 0];
    });
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  };

  const isBusy = () => {
    const chosen = document.getSelection();
    return Boolean(chosen && !chosen.isCollapsed && place.contains(chosen.anchorNode));
  };

  const look = async () => {
    if (!document.hidden && !isBusy()) {
      try {
        const answer = await fetch(place.dataset.live, { credentials: "same-origin", redirect: "error" });
        if (!answer.ok) throw new Error(answer.statusText);
        put(await answer.text());
        place.removeAttribute("aria-busy");
        wait = every;
      } catch {
        // Home is away, or we are signed out: what stands here is old, and we ask less often.
        place.setAttribute("aria-busy", "true");
        wait = Math.min(2 * wait, MOST_MS);
      }
    }
    clearTimeout(timer);
    timer = setTimeout(look, wait);
  };

  timer = setTimeout(look, every);
  // Who comes back to the page sees at once how it is now.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) return;
    clearTimeout(timer);
    look();
  });
}
