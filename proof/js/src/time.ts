/** Nanoseconds since 1970-01-01T00:00:00Z. A Date has milliseconds only, and certificates end between them. */
export type Instant = bigint;

export const second = 1_000_000_000n;
export const minute = 60n * second;
export const hour = 60n * minute;

const form = /^(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)$/;

/** Reads RFC 3339 with any zone; undefined when text is not that, or names a day that does not exist. */
export function parseTime(text: string): Instant | undefined {
  const parts = form.exec(text);
  if (parts === null) return undefined;
  const [year, month, day, hours, minutes, seconds] = parts.slice(1, 7).map(Number) as [number, number, number, number, number, number];
  const start = instantOf(year, month, day, hours, minutes, seconds);
  if (start === undefined) return undefined;
  const nanos = BigInt((parts[7] ?? "").padEnd(9, "0"));
  return start + nanos - offset(parts[8] ?? "Z");
}

/** Reads the one form in which records and statements hold a time: UTC, Z, no trailing zeros. */
export function parseCanonicalTime(text: string): Instant | undefined {
  if (!text.endsWith("Z") || /\.\d*0Z$/.test(text)) return undefined;
  return parseTime(text);
}

/** The instant of a moment in UTC; undefined for a day or time of day that does not exist. */
export function instantOf(year: number, month: number, day: number, hours: number, minutes: number, seconds: number): Instant | undefined {
  if (hours > 23 || minutes > 59 || seconds > 59) return undefined;
  const date = new Date(0);
  // Date.UTC takes the years 0 to 99 for 1900 to 1999; setUTCFullYear does not.
  date.setUTCFullYear(year, month - 1, day);
  if (date.getUTCFullYear() !== year || date.getUTCMonth() !== month - 1 || date.getUTCDate() !== day) return undefined;
  return (BigInt(date.getTime()) / 1000n + BigInt(hours * 3600 + minutes * 60 + seconds)) * second;
}

function offset(zone: string): bigint {
  if (zone === "Z") return 0n;
  const span = BigInt(zone.slice(1, 3)) * hour + BigInt(zone.slice(4, 6)) * minute;
  return zone.startsWith("-") ? -span : span;
}

/** The canonical text of an instant of the years 0 to 9999. */
export function timeText(t: Instant): string {
  const fraction = ((t % second) + second) % second;
  const whole = new Date(Number((t - fraction) / 1_000_000n)).toISOString().slice(0, 19);
  const digits = fraction === 0n ? "" : "." + fraction.toString().padStart(9, "0").replace(/0+$/, "");
  return whole + digits + "Z";
}
