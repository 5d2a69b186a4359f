import { isResolved } from '../../model/outcome.ts';
import { formatHostPort } from '../../parse/address.ts';
import type { NameAt } from './name-at.ts';
import type { ShownBlock } from './shown.ts';

export interface LineQuery {
  pod?: string;
  status?: string;
  path?: string;
}

/** Whether line `i` of a settled block passes the filter. */
export type LineFilter = (block: ShownBlock, i: number) => boolean;

/**
 * - `pod`: a pod's name, the beginning of one up to a dash (a Deployment's), `namespace/` before either, its address, or
 *   its address and port; one attempt of the line must match
 * - `status`: three digits, or a class such as `5xx`
 * - `path`: text that the request's target contains
 */
export function lineFilter({ pod, status, path }: LineQuery, nameAt: NameAt): LineFilter {
  const low = status === undefined ? 0 : Number(status.replace('xx', '00'));
  const high = status?.endsWith('xx') ? low + 99 : low;
  return (block, i) => {
    const { parsed } = block.lines[i]!;
    if (typeof parsed === 'string') return pod === undefined && status === undefined && path === undefined;
    if (
      status !== undefined &&
      !(parsed.status !== undefined && parsed.status >= low && parsed.status <= high)
    )
      return false;
    if (path !== undefined && !parsed.path?.includes(path)) return false;
    if (pod === undefined) return true;
    const outcomes = block.outcomes[i] ?? [];
    for (let k = 0; k < outcomes.length; k++) {
      const outcome = outcomes[k]!;
      const attempt = parsed.attempts[k]!;
      const resolved = isResolved(outcome);
      if (!resolved && outcome.reason !== 'direct') continue;
      const { ip, port } = resolved ? outcome : attempt;
      if (pod === ip || pod === formatHostPort(ip, port)) return true;
      const name = resolved ? outcome.name : nameAt(ip, parsed.endMs ?? block.readAt);
      if (name && (isCalled(name.pod, pod) || isCalled(`${name.namespace}/${name.pod}`, pod))) return true;
    }
    return false;
  };
}

function isCalled(name: string, text: string): boolean {
  return name.startsWith(text) && (name.length === text.length || name[text.length] === '-');
}
