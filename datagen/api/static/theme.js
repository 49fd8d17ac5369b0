// Before the first paint: the theme that was chosen here, else the system's.
"use strict";
try {
  const chosen = localStorage.getItem("datagen-theme");
  if (chosen) document.documentElement.dataset.theme = chosen;
} catch { /* storage may be shut off */ }
