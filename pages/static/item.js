// The player of an item follows links with `data-seek`, the keys n and p lead to the next and the previous segment, and the
// segment and the word that are being played are marked. Without this script, the links lead to the segments.
"use strict";
(() => {
  const player = document.getElementById("player");
  const segments = [...document.querySelectorAll(".segment[data-start]")];
  const words = [...document.querySelectorAll("blockquote span[data-start]")];
  const contains = (part, time) => time >= Number(part.dataset.start) && time < Number(part.dataset.end);

  const seek = (seconds) => {
    if (!player) return;
    const move = () => { player.currentTime = seconds; };
    if (player.readyState > 0) move();
    else player.addEventListener("loadedmetadata", move, { once: true });
  };

  document.addEventListener("click", (event) => {
    const link = event.target.closest("[data-seek]");
    if (link) seek(Number(link.dataset.seek));
  });

  const go = (step) => {
    const current = segments.findIndex((part) => part.classList.contains("current"));
    const focused = segments.indexOf(document.activeElement);
    const from = focused >= 0 ? focused : current;
    const next = segments[from + step];
    if (next) {
      mark(segments, next);
      seek(Number(next.dataset.start));
      next.focus();
      next.scrollIntoView({ block: "nearest" });
    } else {
      const link = document.querySelector(`a[rel="${step > 0 ? "next" : "prev"}"]`);
      if (link) location.href = link.href;
    }
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select")) return;
    if (event.key === "n") go(1);
    else if (event.key === "p") go(-1);
    else return;
    event.preventDefault();
  });

  const mark = (parts, current) => {
    for (const part of parts) part.classList.toggle("current", part === current);
  };
  const follow = () => {
    mark(segments, segments.find((part) => contains(part, player.currentTime)));
    mark(words, words.find((part) => contains(part, player.currentTime)));
  };
  if (player) {
    player.addEventListener("timeupdate", follow);
    player.addEventListener("seeked", follow);
    const target = segments.find((part) => `#${part.id}` === location.hash);
    if (target) seek(Number(target.dataset.start));
  }
})();
