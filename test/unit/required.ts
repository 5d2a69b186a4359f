/** `reason` for a test that skips itself; an error where nothing may be skipped (CI=true, REALPOD_LAB=required). */
export function skipBecause(reason: string): string {
  const strict = process.env.REALPOD_LAB === 'required' || process.env.CI === 'true';
  if (strict) throw new Error(`nothing may be skipped here, but: ${reason}`);
  return reason;
}
