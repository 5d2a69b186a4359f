/** The result of a diagnosis: a grade for each proxying location, and the causes if it is less than exact. */
import type { AccessLog, ConfFormat } from './access-log.ts';
import type { Directive } from './parse-conf.ts';
import type { IdHeader, IdNames } from './request-id.ts';
import { type Inherited, type Model, own, type Route, type Scope } from './scope.ts';
import type { Repeat } from './subrequest.ts';
import type { Target, Unreadable } from './target.ts';

/**
 * Best evidence for the lines of a location (docs/evidence.md).
 * `exact` is request-id. `unknown`: a part that decides it was not read. `not-applicable`: no line to resolve.
 */
export type Grade =
  | 'exact'
  | 'source-port'
  | 'request-window'
  | 'sole-backend'
  | 'nothing'
  | 'unknown'
  | 'not-applicable';

/** A cause for which a location is not `exact`. */
export type Blocker =
  | { kind: 'header-missing'; from: Inherited }
  | { kind: 'header-differs'; lines: readonly Directive[] }
  | { kind: 'client-id'; field: string }
  | { kind: 'id-not-logged' | 'address-not-logged' | 'escape-none'; format: ConfFormat }
  | { kind: 'format-differs'; log: AccessLog; want: ConfFormat }
  | { kind: 'not-followable'; logs: readonly AccessLog[] }
  | { kind: 'not-logged' }
  | { kind: 'repeated'; repeat: Repeat }
  | { kind: 'neighbour'; route: Route; header: IdHeader }
  | { kind: 'slice' }
  | { kind: 'bound-address' }
  | { kind: 'unreadable'; how: Unreadable }
  | { kind: 'unread'; what: string }
  | { kind: 'script'; script: Directive }
  | { kind: 'format-unknown'; name: string }
  | { kind: 'format-refused'; format: ConfFormat; message: string };

/** Why there is no line to resolve. */
export type Exempt = 'log-off' | 'local' | 'subrequest';

export interface Finding {
  route: Route;
  target: Target;
  grade: Grade;
  blockers: readonly Blocker[];
  exempt: Exempt | undefined;
  /** The log for the sidecar to follow. */
  log: AccessLog | undefined;
  header: IdHeader;
}

export interface DoctorNames extends IdNames {
  localPortField?: string;
}

export interface Diagnosis {
  model: Model;
  names: DoctorNames;
  /** The id field is another one than requested: the `map` or `set` variable that this nginx sends. */
  adopted: boolean;
  formats: ReadonlyMap<string, ConfFormat>;
  findings: readonly Finding[];
}

/** Grades with which every normal line gets its pod. */
export function isExact(grade: Grade): boolean {
  return grade === 'exact' || grade === 'source-port';
}

/** Whether every location is exact and everything was read. */
export function allExact(diagnosis: Diagnosis): boolean {
  return (
    diagnosis.model.unread.length === 0 &&
    diagnosis.findings.every((f) => isExact(f.grade) || f.grade === 'not-applicable')
  );
}

/** A format of this nginx that already has all needed fields. */
export function completeFormat(diagnosis: Diagnosis): ConfFormat | undefined {
  return [...diagnosis.formats.values()].find(
    (f) => f.variables.has('upstream_addr') && f.variables.has(diagnosis.names.field) && f.escape !== 'none',
  );
}

export function serverNames(server: Scope): string {
  const names = own(server, 'server_name').flatMap((d) => d.args.map((a) => a.text));
  return names.filter((n) => n !== '').join(' ') || '_';
}
