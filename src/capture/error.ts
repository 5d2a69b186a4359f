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
