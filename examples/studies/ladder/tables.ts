export function tablesOf(_: unknown): { title: string; lines: string[] }[] { return []; }
