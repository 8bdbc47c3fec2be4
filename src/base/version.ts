// The package's version. package.json says the same (a test compares them); a bundle has no package.json to read it from.

export function packageVersion(): string {
  return '0.1.0';
}
