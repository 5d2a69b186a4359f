/**
 * What nginx can pass on of a request, as hashes of 32 bits: equal texts have equal hashes, different ones mostly not. A
 * value that cannot be compared is undefined. An absent header, an empty one and `-` are equal, as a log shows.
 */
export interface RequestContent {
  readonly target: number | undefined;
  readonly userAgent: number | undefined;
  readonly referer: number | undefined;
}

/** Which of it the request to a Service has unchanged, and the log has, too. */
export type Compared = { readonly [K in keyof RequestContent]: boolean };

/** The same on the wire: target, User-Agent, Referer; without the headers where the head was not read to its end. */
export type ContentHashes = readonly [number] | readonly [number, number, number];
