export interface ServerEvent {
  /** '' where it has no name. */
  name: string;
  data: string;
}

/** Longest event in characters; a line of the log is at most 256 KiB, and is sent twice. */
const MAX_EVENT = 4 * 1024 * 1024;

/** Server-sent events (WHATWG HTML, 9.2.6), as far as `/lines/stream` uses them: lines end with \n, one data line an event. */
export async function* serverEvents(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<ServerEvent> {
  const decoder = new TextDecoder();
  let rest = '';
  for await (const chunk of chunks) {
    rest += decoder.decode(chunk, { stream: true });
    const end = rest.lastIndexOf('\n\n');
    if (end < 0) {
      if (rest.length > MAX_EVENT) throw new Error('an event without an end');
      continue;
    }
    for (const block of rest.slice(0, end).split('\n\n')) {
      const event: ServerEvent = { name: '', data: '' };
      for (const line of block.split('\n')) {
        if (line.startsWith('event: ')) event.name = line.slice(7);
        else if (line.startsWith('data: ')) event.data += line.slice(6);
      }
      if (event.data !== '') yield event;
    }
    rest = rest.slice(end + 2);
  }
}
