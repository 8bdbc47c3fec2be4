export function figuresOf(_: unknown): { name: string; svg: string }[] { return []; }
