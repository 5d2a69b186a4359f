import { pipeline } from 'node:stream';
import split2 from 'split2';

export interface ServerEvent {
  /** '' where it has no name. */
  name: string;
  data: string;
}

/** Longest line in characters; a line of the log is at most 256 KiB, and an event has it twice. */
const MAX_LINE_LENGTH = 4 * 1024 * 1024;

/**
 * Server-sent events (WHATWG HTML, 9.2.6), as far as `/lines/stream` uses them: one data line an event. An event that
 * the stream ends in is dropped. Rejects if the stream breaks, or a line is longer than `MAX_LINE_LENGTH`.
 */
export async function* serverEvents(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<ServerEvent> {
  const lines = pipeline(chunks, split2({ maxLength: MAX_LINE_LENGTH }), () => {
    // The loop below rejects with the same error.
  });
  let event: ServerEvent = { name: '', data: '' };
  for await (const line of lines as AsyncIterable<string>) {
    if (line.startsWith('event: ')) event.name = line.slice(7);
    else if (line.startsWith('data: ')) event.data = line.slice(6);
    else if (line === '') {
      if (event.data !== '') yield event;
      event = { name: '', data: '' };
    }
  }
}
