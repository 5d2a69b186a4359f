/** Whether a test that cannot run is a failure: in CI (`CI=true`), and where the lab is asked for (`REALPOD_LAB=required`). */
export function nothingMayBeSkipped(): boolean {
  return process.env.REALPOD_LAB === 'required' || process.env.CI === 'true';
}

/** `reason` for a test that skips itself; an error where nothing may be skipped. */
export function skipBecause(reason: string): string {
  if (nothingMayBeSkipped()) throw new Error(`nothing may be skipped here, but: ${reason}`);
  return reason;
}
