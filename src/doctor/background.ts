/** Whether nginx may go on with a request when it has answered its client, and write its line only then. Pure. */
import type { Directive } from './parse-conf.ts';
import type { Model } from './scope.ts';

/**
 * The directive because of which nginx may write a line long after the client has its answer and is gone: copies of requests
 * (`mirror`) and updates of a cache in the background are part of the request. Undefined if there is none.
 */
export function outlivesClients({ http }: Model): string | undefined {
  return http?.entries.map(({ directive }) => found(directive)).find((name) => name !== undefined);
}

function found({ name, args, children, included }: Directive): string | undefined {
  const set = args[0]?.text ?? '';
  if (name === 'post_action' || (name === 'mirror' && set !== 'off')) return name;
  if (name.endsWith('_cache_background_update') && set !== 'off') return name;
  for (const inner of [...(children ?? []), ...(included ?? [])]) {
    const within = found(inner);
    if (within !== undefined) return within;
  }
  return undefined;
}
