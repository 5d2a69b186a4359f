/** Classic BPF, with labels in place of distances (linux/filter.h; Documentation/networking/filter.rst). */

export const LOAD_IMMEDIATE = 0x00;
export const LOAD_WORD = 0x20;
export const LOAD_HALF = 0x28;
export const LOAD_BYTE = 0x30;
/** At an offset from X. */
export const LOAD_HALF_X = 0x48;
export const LOAD_BYTE_X = 0x50;
export const LOADX_IMMEDIATE = 0x01;
/** X = four times the low half of a byte: the length of an IPv4 header. */
export const LOADX_HEADER_LENGTH = 0xb1;
export const COPY_TO_X = 0x07;
export const ADD = 0x04;
export const ADD_X = 0x0c;
export const AND = 0x54;
export const SHIFT_RIGHT = 0x74;
export const JUMP = 0x05;
export const JUMP_EQUAL = 0x15;
/** Compares with X. */
export const JUMP_EQUAL_X = 0x1d;
export const JUMP_GREATER = 0x25;
export const JUMP_AT_LEAST = 0x35;
export const JUMP_SET = 0x45;
export const RETURN = 0x06;

/** SKF_AD_OFF: loads from here on are of what the kernel knows of a packet. */
export const ANCILLARY = 0xfffff000;
/** BPF_MAXINSNS */
export const MOST_INSTRUCTIONS = 4_096;

export interface Instruction {
  code: number;
  value: number;
  /** Labels; the next instruction if absent. At most 255 instructions away; `JUMP` goes any distance. */
  yes?: string | undefined;
  no?: string | undefined;
  label?: string;
}

/** The program as an array of struct sock_filter. */
export function assemble(program: readonly Instruction[]): Buffer {
  const places = new Map<string, number>();
  program.forEach(({ label }, at) => {
    if (label !== undefined) places.set(label, at);
  });
  const bytes = Buffer.alloc(program.length * 8);
  program.forEach(({ code, value, yes, no }, at) => {
    const distance = (label: string | undefined) => (label === undefined ? 0 : places.get(label)! - at - 1);
    // struct sock_filter: u16 code, u8 distance if true, u8 distance if false, u32 operand.
    bytes.writeUInt16LE(code, at * 8);
    if (code === JUMP) {
      bytes.writeUInt32LE(distance(yes), at * 8 + 4);
    } else {
      bytes.writeUInt8(distance(yes), at * 8 + 2);
      bytes.writeUInt8(distance(no), at * 8 + 3);
      bytes.writeUInt32LE(value, at * 8 + 4);
    }
  });
  return bytes;
}
