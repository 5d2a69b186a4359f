/**
 * Files in the `data` of a Kubernetes ConfigMap. Only literal blocks (`key: |`) are read: each of their lines is a line of
 * the YAML with an indentation before it, so a change keeps everything around it. Pure.
 */
import { ConfError } from './parse-conf.ts';
import { refuseChart } from './template.ts';

export interface EmbeddedFile {
  key: string;
  /** The file's text. */
  text: string;
  /** Its first line in the YAML (0-based), and its number of lines. */
  firstLine: number;
  lines: number;
  indent: string;
}

/** Whether this is YAML or JSON of a Kubernetes object, and not an nginx configuration. */
export function isManifest(text: string): boolean {
  return (
    (/^(- | {2})?apiVersion:[ \t]*\S/m.test(text) &&
      /^(- | {2})?kind:[ \t]*\S/m.test(text) &&
      !/^\s*http\s*\{/.test(text)) ||
    /^\s*\{\s*"(apiVersion|kind|data)"\s*:/.test(text)
  );
}

/** @throws ConfError: one line with the command that gets the file */
export function filesOf(path: string, text: string): EmbeddedFile[] {
  const kinds = [...text.matchAll(/^[ -]*"?kind"?:[ \t]*"?([A-Za-z]+)"?/gm)].map(([, kind]) => kind ?? '');
  const get = `kubectl get configmap NAME -o yaml | realpod doctor`;
  refuseChart(path, text);
  if (/^\s*\{/.test(text)) {
    throw new ConfError(`${path}: a Kubernetes object in JSON; use: ${get}`);
  }
  if (!kinds.includes('ConfigMap')) {
    throw new ConfError(
      `${path}: a Kubernetes ${kinds[0] ?? 'object'}, not an nginx configuration; use: ${get}`,
    );
  }
  const lines = text.split('\n');
  const files: EmbeddedFile[] = [];
  for (let i = 0; i < lines.length; i++) {
    const data = /^( *(?:- )?)data:[ \t]*(#.*)?\r?$/.exec(lines[i] ?? '');
    if (data) i = readData(path, lines, i + 1, (data[1] ?? '').length, files) - 1;
  }
  if (files.length === 0) throw new ConfError(`${path}: a ConfigMap without a file in its data`);
  return files;
}

const widthOf = (line: string): number => /^ */.exec(line)?.[0].length ?? 0;
const isBlank = (line: string): boolean => line.trim() === '';

/** Reads the entries of one `data`; returns the line after it. */
function readData(
  path: string,
  lines: readonly string[],
  from: number,
  outer: number,
  into: EmbeddedFile[],
): number {
  let i = from;
  while (i < lines.length) {
    const line = lines[i] ?? '';
    if (isBlank(line) || /^ *#/.test(line)) {
      i++;
      continue;
    }
    const width = widthOf(line);
    if (width <= outer) return i;
    const entry = /^ *(?:"([^"]+)"|'([^']+)'|([^\s"'#][^:]*?)):(?: +(.*?))? *\r?$/.exec(line);
    if (!entry) throw new ConfError(`${path}:${i + 1}: not a key with a value`);
    const key = entry[1] ?? entry[2] ?? entry[3] ?? '';
    const value = entry[4] ?? '';
    i++;
    if (!/^[|>]/.test(value)) {
      if (looksLikeConf(key, value)) {
        throw new ConfError(
          `${path}: ${key} is not a literal block (${key}: |), so a patch could break it; give the file itself: kubectl get configmap NAME -o jsonpath='{.data.${key.replaceAll('.', '\\.')}}' | realpod doctor`,
        );
      }
      while (i < lines.length && (isBlank(lines[i] ?? '') || widthOf(lines[i] ?? '') > width)) i++;
      continue;
    }
    const begin = i;
    while (i < lines.length && (isBlank(lines[i] ?? '') || widthOf(lines[i] ?? '') > width)) i++;
    let end = i;
    while (end > begin && isBlank(lines[end - 1] ?? '')) end--;
    const body = lines.slice(begin, end);
    if (value.startsWith('>')) {
      if (looksLikeConf(key, body.join('\n'))) {
        throw new ConfError(
          `${path}: ${key} is a folded block (${key}: >), which joins its lines; write ${key}: |`,
        );
      }
      continue;
    }
    const given = /^\|[+-]?([1-9])/.exec(value)?.[1];
    const first = body.find((l) => !isBlank(l)) ?? '';
    const indent = ' '.repeat(given === undefined ? widthOf(first) : width + Number(given));
    into.push({
      key,
      text: `${body.map((l) => (isBlank(l) ? '' : l.slice(indent.length))).join('\n')}\n`,
      firstLine: begin,
      lines: body.length,
      indent,
    });
  }
  return i;
}

function looksLikeConf(key: string, value: string): boolean {
  return /\.(conf|template)$/.test(key) || /\b(server|http|upstream)\s*\{/.test(value);
}

/** The file that nginx would read first: the one with `http`, else the only one with `server`. */
export function mainOf(path: string, files: readonly EmbeddedFile[]): EmbeddedFile {
  const confs = files.filter(({ text }) => /\b(server|http|stream|upstream)\s*\{/.test(text));
  const whole = confs.filter(({ text }) => /^\s*(http|stream)\s*\{/m.test(text));
  const [main, other] = whole.length > 0 ? whole : confs;
  if (!main) throw new ConfError(`${path}: no file in its data is an nginx configuration with a server`);
  if (other) {
    const keys = (whole.length > 0 ? whole : confs).map(({ key }) => key).join(', ');
    throw new ConfError(
      `${path}: several configurations in its data (${keys}); give the output of nginx -T, which has all of them in nginx's order`,
    );
  }
  return main;
}
