/** Why a reader gets nothing, for people (`message`, `next`: what to do) and programs (`code`). */
export interface Refusal {
  ok: false;
  /** 401: who are you? 403: not yours. 503: cannot tell right now, try again. */
  status: 401 | 403 | 503;
  code: RefusalCode;
  message: string;
  next: string;
}

export type RefusalCode =
  | 'token-missing'
  | 'token-invalid'
  | 'token-expired'
  | 'token-audience'
  | 'token-not-of-a-pod'
  | 'address-not-yours'
  | 'address-of-another-pod'
  | 'address-of-the-node'
  | 'pod-of-another-node'
  | 'names-not-ready'
  | 'api-server-away'
  | 'too-many-tokens';

export function refuse(status: Refusal['status'], code: RefusalCode, message: string, next: string): Refusal {
  return { ok: false, status, code, message, next };
}
