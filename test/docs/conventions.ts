import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import * as conventions from '@opentelemetry/semantic-conventions/incubating';

export type Stability = 'stable' | 'development' | 'deprecated';

const here = createRequire(import.meta.url);
const folder = new URL('.', `file://${here.resolve('@opentelemetry/semantic-conventions/incubating')}`);

/** The version of OpenTelemetry's semantic conventions that the names are compared with. */
export const CONVENTIONS_VERSION = (
  JSON.parse(readFileSync(fileURLToPath(new URL('../package.json', folder)), 'utf8')) as { version: string }
).version;

const NAMES: ReadonlyMap<string, Stability> = new Map(
  ['stable', 'experimental'].flatMap((kind) => {
    const text = readFileSync(new URL(`${kind}_attributes.d.cts`, folder), 'utf8');
    return [...text.matchAll(/\/\*\*((?:(?!\*\/)[\s\S])*)\*\/\s*declare const (ATTR_\w+)/g)].map(
      ([, comment, constant]): [string, Stability] => {
        const value = (conventions as unknown as Record<string, string | ((key: string) => string)>)[
          constant!
        ]!;
        const stability = comment!.includes('@deprecated')
          ? 'deprecated'
          : kind === 'stable'
            ? 'stable'
            : 'development';
        return [typeof value === 'string' ? value : value('*'), stability];
      },
    );
  }),
);

/** How stable the attribute is in the conventions; undefined where they have none of this name. Headers end in `.*`. */
export function stabilityOf(name: string): Stability | undefined {
  return NAMES.get(name.replace(/^(http\.(?:request|response)\.header)\..+$/, '$1.*'));
}
