/** A condition of the machine that stops capturing. `message` is one line for people, with what to do next. */
export class CaptureError extends Error {
  /** Name of the errno where a call failed, else a word of its own. */
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.name = 'CaptureError';
    this.code = code;
  }
}
