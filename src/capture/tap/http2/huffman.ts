/** The Huffman code of HTTP/2 headers (RFC 7541, appendix B), as far as text of printable ASCII needs it. */

/**
 * Characters by the length of their codes in bits. The code is canonical: codes of one length follow one another in the order
 * of their characters, and the first of a length follows the last of the shorter ones. Longer codes are of other bytes.
 */
const BY_LENGTH: readonly (readonly [bits: number, characters: string])[] = [
  [5, '012aceiost'],
  [6, ' %-./3456789=A_bdfghlmnpru'],
  [7, ':BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz'],
  [8, '&*,;XZ'],
  [10, '!"()?'],
  [11, "'+|"],
  [12, '#>'],
  [13, '\0$@[]~'],
  [14, '^}'],
  [15, '<`{'],
  [19, '\\'],
];
const LONGEST = 19;

/** By the length of a code in bits: the first code, and its characters. */
const firstCode: number[] = [];
const characters: string[] = [];
for (let bits = 0, next = 0; bits <= LONGEST; bits++, next *= 2) {
  firstCode[bits] = next;
  characters[bits] = BY_LENGTH.find(([length]) => length === bits)?.[1] ?? '';
  next += characters[bits]!.length;
}

/** The text at `start`..`end`; undefined if it has another character than printable ASCII, or its end is not padded with ones. */
export function huffmanText(bytes: Buffer, start: number, end: number): string | undefined {
  let text = '';
  let code = 0;
  let bits = 0;
  for (let at = start; at < end; at++) {
    const byte = bytes[at]!;
    for (let bit = 7; bit >= 0; bit--) {
      code = (code << 1) | ((byte >> bit) & 1);
      bits++;
      const character = characters[bits]![code - firstCode[bits]!];
      if (character === undefined) {
        if (bits === LONGEST) return undefined;
        continue;
      }
      if (character === '\0') return undefined;
      text += character;
      code = 0;
      bits = 0;
    }
  }
  // RFC 7541, section 5.2: less than a byte of ones.
  return bits < 8 && code === (1 << bits) - 1 ? text : undefined;
}
