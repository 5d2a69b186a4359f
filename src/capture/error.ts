import { release } from 'node:os';

/** A condition of the machine that stops capturing. `message` is one line for people, with what to do next. */
export class CaptureError extends Error {
  /** Name of the errno if a call failed, else one of capture's codes, such as `table-exists`. */
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.name = 'CaptureError';
    this.code = code;
  }
}

/** Code of the error of a kernel that cannot run the tap's rules, whatever the rights. */
export const CANNOT_RUN_RULES = 'kernel';

/** `lacking`: what the kernel would need. */
export function cannotRunRules(lacking: string): CaptureError {
  return new CaptureError(
    CANNOT_RUN_RULES,
    `this kernel (Linux ${release()}) cannot run the tap's rules: ${lacking}`,
  );
}
