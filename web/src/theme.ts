/** Light or dark: as the browser prefers, unless the reader chose. */

const KEY = "hpcq.theme";
const prefersDark = matchMedia("(prefers-color-scheme: dark)");

export function isDark(): boolean {
  const chosen = localStorage.getItem(KEY);
  return chosen ? chosen === "dark" : prefersDark.matches;
}

function showTheme(): void {
  document.documentElement.dataset.theme = isDark() ? "dark" : "light";
}

export function switchTheme(): void {
  localStorage.setItem(KEY, isDark() ? "light" : "dark");
  showTheme();
}

showTheme();
prefersDark.addEventListener("change", showTheme);
