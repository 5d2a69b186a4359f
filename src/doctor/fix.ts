/** Makes the patch after which every location is exact that can be. */
import { diagnose } from './diagnose.ts';
import type { Diagnosis, DoctorNames } from './finding.ts';
import { ConfError } from './parse-conf.ts';
import { type Change, PatchedFile } from './patch.ts';
import { remedies } from './remedy.ts';
import { modelOf } from './scope.ts';
import { assemble, type ConfFiles } from './sources.ts';

/** Limit of rounds. A header added at one level can reach a mirror that then needs another id: edits can require more. */
const MAX_ROUNDS = 8;

export interface Fix {
  changes: readonly Change[];
  /** Unified diff of all files, without `a/` and `b/`: for `patch -p0`. Empty when there is nothing to change. */
  patch: string;
  /** The diagnosis of the patched configuration. */
  after: Diagnosis;
}

/** @throws ConfError without an http, stream or server block */
export function examine(sources: ConfFiles, names: DoctorNames, explicit: boolean): Diagnosis {
  const model = modelOf(assemble(sources));
  if (!model) {
    throw new ConfError(
      `${sources.main}: no http, stream or server block in it; give the output of "nginx -T" or the main nginx.conf`,
    );
  }
  return diagnose(model, names, explicit, sources.prefix);
}

export function fix(sources: ConfFiles, names: DoctorNames, explicit: boolean): Fix {
  const files = new Map([...sources.texts].map(([path, text]) => [path, new PatchedFile(path, text)]));
  let after = examine(sources, names, explicit);
  for (let round = 0; round < MAX_ROUNDS; round++) {
    const edits = remedies(after);
    if (edits.length === 0) break;
    for (const [path, file] of files) file.apply(edits.filter((e) => e.path === path));
    const texts = new Map([...files].map(([path, file]) => [path, file.text]));
    after = examine({ ...sources, texts }, names, explicit);
  }
  const { manifest } = sources;
  const touched = manifest ? [around(manifest, files)] : [...files.values()];
  return {
    changes: touched.flatMap((f) => f.changes()),
    patch: touched.map((f) => f.diff()).join(''),
    after,
  };
}

/** Translates the changes of the blocks to changes of the YAML file around them. */
function around(
  { path, text, blocks }: NonNullable<ConfFiles['manifest']>,
  files: ReadonlyMap<string, PatchedFile>,
): PatchedFile {
  const parts = [...blocks].flatMap(([name, block]) => {
    const file = files.get(name);
    return file ? [{ ...block, file }] : [];
  });
  return PatchedFile.around(path, text, parts);
}
