// Writes dist/: the library with its types, the browser's one module, the command.
import { execFileSync } from "node:child_process";
import { chmod, readFile, rm } from "node:fs/promises";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

await rm("dist", { recursive: true, force: true });
for (const args of [["-p", "tsconfig.json"], ["-p", "tsconfig.test.json", "--noEmit"]]) {
  execFileSync(process.execPath, ["node_modules/typescript/bin/tsc", ...args], { stdio: "inherit" });
}
const common = { bundle: true, format: "esm", target: "es2022", charset: "utf8", logLevel: "warning" };
await build({ ...common, entryPoints: ["src/index.ts"], outfile: "dist/zhenglian-proof.js", platform: "browser", minify: true });
await build({ ...common, entryPoints: ["src/cli.ts"], outfile: "dist/cli.js", platform: "node" });
await chmod("dist/cli.js", 0o755);

const module = await readFile("dist/zhenglian-proof.js");
console.log(`dist/zhenglian-proof.js: ${module.length} bytes, ${gzipSync(module, { level: 9 }).length} with gzip`);
