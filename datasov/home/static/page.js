"use strict";
// Everything works without this file; it takes the code from the address, and leaves the page when its time is over.
(() => {
  const enter = document.getElementById("enter");
  const come = () => {
    if (!enter || location.hash.length < 2) return;
    enter.elements.code.value = decodeURIComponent(location.hash.slice(1));
    history.replaceState(null, "", location.pathname);
    enter.submit();
  };
  come();
  addEventListener("hashchange", come);
  const idle = Number(document.body.dataset.idle || 0);
  if (!idle) return;
  const soon = document.getElementById("soon");
  const leave = () => location.replace(document.body.dataset.locked);
  setTimeout(() => { soon.hidden = false; }, Math.max(0, idle - 60) * 1000);
  setTimeout(leave, idle * 1000 + 500);
  document.getElementById("stay").addEventListener("click", () => location.reload());
  addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
})();
