import { byId, setText } from './dom.ts';
import { LineList } from './lines.ts';
import { Lookup } from './lookup.ts';
import { recolorPlots, refreshPods } from './pods.ts';
import { refreshStatus } from './status.ts';

const PAGE_REFRESH_MS = 2_000;

const lookup = new Lookup();
const lines = new LineList();
lines.onPort = (port) => lookup.port(port);
const showPod = (pod: string): void => lines.showPod(pod);

let refreshing = false;
async function refresh(): Promise<void> {
  if (refreshing || document.hidden) return;
  refreshing = true;
  try {
    await refreshStatus(await refreshPods(showPod));
    byId('trouble').hidden = true;
  } catch {
    setText(byId('trouble'), 'realpod does not answer. The figures below are old; the page keeps trying.');
    byId('trouble').hidden = false;
  } finally {
    refreshing = false;
  }
}

byId('window').addEventListener('change', () => void refresh());
document.addEventListener('visibilitychange', () => void refresh());

const dark = matchMedia('(prefers-color-scheme: dark)');
byId('theme').addEventListener('click', () => {
  const root = document.documentElement;
  const now = root.dataset.theme ?? (dark.matches ? 'dark' : 'light');
  root.dataset.theme = now === 'dark' ? 'light' : 'dark';
  localStorage.setItem('theme', root.dataset.theme);
  recolor();
});
dark.addEventListener('change', recolor);
function recolor(): void {
  recolorPlots();
  void refresh();
}
const kept = localStorage.getItem('theme');
if (kept === 'dark' || kept === 'light') document.documentElement.dataset.theme = kept;

lines.start();
void refresh();
setInterval(() => void refresh(), PAGE_REFRESH_MS);
