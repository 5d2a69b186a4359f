/**
 * The files of a configuration: from the output of `nginx -T`, or from a file and the files it includes.
 * File contents are text with one character for each byte (latin1).
 */
import { isAbsolute, posix, resolve } from 'node:path';
import { type EmbeddedFile, filesOf, isManifest, mainOf } from './config-map.ts';
import { refuseOtherFile } from './other-files.ts';
import { ConfError, type Directive, parseConf, type SourceFile } from './parse-conf.ts';
import { refuseTemplate } from './template.ts';
import { fitsPath, fitsSegment, isPattern } from './wildcard.ts';

export interface ConfFiles {
  /** Path of the main file. */
  main: string;
  texts: ReadonlyMap<string, string>;
  /** Argument of an `include` → paths in `texts`, or null if it was not read. */
  includes: ReadonlyMap<string, readonly string[] | null>;
  /** nginx's `--prefix`, the directory of relative paths; undefined without the output of `nginx -V`. */
  prefix?: string | undefined;
  /** If the files are literal blocks of a YAML file: that file, and each block by its path in `texts`. */
  manifest?: { path: string; text: string; blocks: ReadonlyMap<string, EmbeddedFile> };
}

/** Access to the disk. Both return null if the file or directory does not exist or cannot be read. */
export interface Disk {
  read(path: string): string | null;
  list(directory: string): readonly string[] | null;
}

const MAX_FILES = 10_000;
/** Limit for files that include each other many times. */
const MAX_DIRECTIVES = 2_000_000;
/** A file that includes itself makes nginx fail for lack of descriptors. */
const MAX_INCLUDE_DEPTH = 32;
/** Lines of `nginx -T 2>&1` and `nginx -V 2>&1`, also of Angie, OpenResty and Tengine. */
const BEFORE_DUMP =
  /^(nginx: |angie: |[\w ]{3,16} version: |built (by|on|with|from) |TLS SNI support |configure arguments:)/i;
const MARKER = '# configuration file ';

/** Whether this is the output of `nginx -T`. Messages of `nginx -T 2>&1` may come before it. */
export function isDump(text: string): boolean {
  return dumpStart(text) >= 0;
}

function dumpStart(text: string): number {
  let at = 0;
  while (
    BEFORE_DUMP.test(text.slice(at, at + 24)) ||
    text[at] === '\n' ||
    /^\d{4}\/\d\d\/\d\d /.test(text.slice(at, at + 11))
  ) {
    const eol = text.indexOf('\n', at);
    if (eol < 0) return -1;
    at = eol + 1;
  }
  return text.startsWith(MARKER, at) ? at : -1;
}

/** Offsets of marker lines: `# configuration file PATH:`. */
function markers(text: string): { at: number; path: string; body: number }[] {
  const found: { at: number; path: string; body: number }[] = [];
  for (let at = dumpStart(text); at >= 0; ) {
    const eol = text.indexOf('\n', at);
    const line = text.slice(at, eol < 0 ? text.length : eol);
    if (line.endsWith(':')) {
      found.push({ at, path: line.slice(MARKER.length, -1), body: eol < 0 ? text.length : eol + 1 });
    }
    const next = text.indexOf(`\n${MARKER}`, at);
    at = next < 0 ? -1 : next + 1;
  }
  return found;
}

/** nginx writes each file as a marker line, the file's bytes, and one additional newline. */
export function fromDump(dump: string): ConfFiles {
  const found = markers(dump);
  const main = found[0];
  if (!main)
    throw new ConfError('this is not the output of "nginx -T": no "# configuration file PATH:" line');
  const texts = new Map<string, string>();
  for (const [i, marker] of found.entries()) {
    const body = dump.slice(marker.body, found[i + 1]?.at ?? dump.length);
    if (!texts.has(marker.path)) texts.set(marker.path, body.endsWith('\n') ? body.slice(0, -1) : body);
  }
  const find = (pattern: string): string[] | null => {
    const full = isAbsolute(pattern) ? pattern : posix.join(posix.dirname(main.path), pattern);
    const hits = [...texts.keys()].filter((path) => fitsPath(full, path)).sort();
    return hits.length > 0 || isPattern(full) ? hits : null;
  };
  const prefix = /^configure arguments:.*? --prefix=(\S+)/m.exec(dump.slice(0, main.at))?.[1];
  return { ...collect(main.path, texts, find, () => null), prefix };
}

/** A text without a place on disk: its includes cannot be read. */
export function fromText(text: string, path: string): ConfFiles {
  if (isManifest(text)) return fromManifest(text, path === 'nginx.conf' ? 'configmap.yaml' : path);
  refuseOtherFile(path, text);
  refuseTemplate(path, text);
  return collect(
    path,
    new Map([[path, text]]),
    () => null,
    () => null,
  );
}

/** A ConfigMap: an include leads to the file of the ConfigMap with the same last part of the path. */
function fromManifest(text: string, path: string): ConfFiles {
  const blocks = new Map(filesOf(path, text).map((file) => [`${path}[${file.key}]`, file]));
  const main = mainOf(path, [...blocks.values()]);
  const nameOf = (file: EmbeddedFile): string => `${path}[${file.key}]`;
  for (const [name, block] of blocks) refuseTemplate(name, block.text);
  const find = (pattern: string): string[] | null => {
    const last = posix.basename(pattern);
    const found = [...blocks.values()].filter(({ key }) => key !== main.key && fitsSegment(last, key));
    return found.length > 0 ? found.map(nameOf).sort() : null;
  };
  const texts = new Map([...blocks].map(([name, { text: body }]) => [name, body]));
  return { ...collect(nameOf(main), texts, find, () => null), manifest: { path, text, blocks } };
}

/**
 * A file and its includes below the file's directory. Absolute paths to other directories are not read: a container's
 * /etc/nginx is not this machine's.
 */
export function fromDisk(path: string, disk: Disk): ConfFiles {
  const text = disk.read(path);
  if (text === null) throw new ConfError(`${path}: cannot be read; does it exist, and may you read it?`);
  if (isManifest(text)) return fromManifest(text, path);
  refuseOtherFile(path, text);
  const base = posix.dirname(path);
  const find = (pattern: string): string[] | null => {
    let relative = pattern;
    if (isAbsolute(pattern)) {
      const root = `${resolve(base)}/`;
      if (!pattern.startsWith(root)) return null;
      relative = pattern.slice(root.length);
    }
    let paths = [base];
    for (const segment of posix.normalize(relative).split('/')) {
      paths = paths.flatMap((directory) =>
        isPattern(segment)
          ? (disk.list(directory) ?? [])
              .filter((name) => fitsSegment(segment, name))
              .sort()
              .map((name) => posix.join(directory, name))
          : [posix.join(directory, segment)],
      );
    }
    return isPattern(relative) || paths.every((p) => disk.read(p) !== null) ? paths : null;
  };
  return collect(path, new Map([[path, text]]), find, disk.read, refuseTemplate);
}

/** Follows every `include` from the main file, so that later steps need no disk. */
function collect(
  main: string,
  known: Map<string, string>,
  find: (pattern: string) => string[] | null,
  read: (path: string) => string | null,
  check: (path: string, text: string) => void = () => {},
): ConfFiles {
  const texts = new Map<string, string>();
  const includes = new Map<string, readonly string[] | null>();
  const queue = [main];
  for (let path = queue.pop(); path !== undefined; path = queue.pop()) {
    const text = known.get(path) ?? read(path);
    if (text === null || texts.has(path)) continue;
    if (texts.size >= MAX_FILES) throw new ConfError(`more than ${MAX_FILES} files are included`);
    check(path, text);
    texts.set(path, text);
    const visit = (directives: readonly Directive[]): void => {
      for (const directive of directives) {
        const pattern = directive.args[0]?.text;
        if (directive.name === 'include' && pattern !== undefined && !includes.has(pattern)) {
          const found = find(pattern);
          includes.set(pattern, found);
          queue.push(...(found ?? []));
        }
        visit(directive.children ?? []);
      }
    };
    visit(parseConf({ path, text }));
  }
  return { main, texts, includes };
}

/** The tree of the whole configuration, each `include` with the directives of its files. */
export function assemble(sources: ConfFiles): Directive[] {
  const parsed = new Map<string, { file: SourceFile; directives: Directive[] }>();
  const load = (path: string): Directive[] | undefined => {
    const text = sources.texts.get(path);
    if (text === undefined) return undefined;
    let entry = parsed.get(path);
    if (!entry) {
      const file = { path, text };
      entry = { file, directives: parseConf(file) };
      parsed.set(path, entry);
    }
    return entry.directives;
  };
  let count = 0;
  const expand = (directives: readonly Directive[], depth: number): Directive[] =>
    directives.map((directive) => {
      if (++count > MAX_DIRECTIVES)
        throw new ConfError(`more than ${MAX_DIRECTIVES} directives, includes counted`);
      if (directive.children) return { ...directive, children: expand(directive.children, depth) };
      const pattern = directive.args[0]?.text;
      if (directive.name !== 'include' || pattern === undefined) return directive;
      if (depth >= MAX_INCLUDE_DEPTH) {
        throw new ConfError(
          `${directive.file.path}: includes are nested more than ${MAX_INCLUDE_DEPTH} deep`,
        );
      }
      const paths = sources.includes.get(pattern);
      if (!paths) return { ...directive, included: null };
      return { ...directive, included: paths.flatMap((path) => expand(load(path) ?? [], depth + 1)) };
    });
  return expand(load(sources.main) ?? [], 0);
}
