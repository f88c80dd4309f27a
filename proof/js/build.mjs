// Writes dist/: the library with its types, the browser's one module, the command.
// With --module FILE it writes that one module to FILE and nothing else.
import { execFileSync } from "node:child_process";
import { chmod, readFile, rm } from "node:fs/promises";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const common = { bundle: true, format: "esm", target: "es2022", charset: "utf8", logLevel: "warning" };
const browser = { ...common, entryPoints: ["src/index.ts"], platform: "browser", minify: true };
if (process.argv[2] === "--module") {
  await build({ ...browser, outfile: process.argv[3] });
  process.exit();
}

await rm("dist", { recursive: true, force: true });
for (const args of [["-p", "tsconfig.json"], ["-p", "tsconfig.test.json", "--noEmit"]]) {
  execFileSync(process.execPath, ["node_modules/typescript/bin/tsc", ...args], { stdio: "inherit" });
}
await build({ ...browser, outfile: "dist/zhenglian-proof.js" });
await build({ ...common, entryPoints: ["src/cli.ts"], outfile: "dist/cli.js", platform: "node" });
await chmod("dist/cli.js", 0o755);

const module = await readFile("dist/zhenglian-proof.js");
console.log(`dist/zhenglian-proof.js: ${module.length} bytes, ${gzipSync(module, { level: 9 }).length} with gzip`);
