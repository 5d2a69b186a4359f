/** A whole answer with status 200, for what is asked so often that the server answers it without the application. */
export interface Answer {
  /** The value of `Content-Type`. */
  type: string;
  body: string;
}

/** Makes the answer; throws HttpError. */
export type Respond = () => Answer | Promise<Answer>;

export function jsonAnswer(value: unknown): Answer {
  return { type: 'application/json; charset=utf-8', body: JSON.stringify(value) };
}
