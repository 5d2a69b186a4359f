/** The kernel's messages, from wherever they are read. */

export interface KernelMessage {
  text: string;
  /** Ms since the epoch: not before the message was logged, nor after it was read. */
  t: number;
}

export interface MessageReading {
  messages: KernelMessage[];
  /** Messages known to be missing since the reading before; 0 with `incomplete`: their number is not known. */
  lost: number;
  incomplete: boolean;
  /** Lines of a syslog file that are another program's, and lines whose layout is not known. */
  notKernel: number;
  unknownLayout: number;
  /** What was logged up to here has been read, ms since the epoch. */
  completeUntil: number;
}

export interface KernelMessageSource {
  /** Calls `wake` when there is something to read. Once. */
  watch(wake: () => void): void;
  /** Reads what is there. Rejects with `CaptureError` when nothing more can be read. */
  read(): Promise<MessageReading>;
  /** The wall clock was set: what was learned of it no longer holds. */
  clockSet(): void;
  close(): void;
}

export type WallClock = () => number;
