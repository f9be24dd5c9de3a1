"""node-app-sources.py DIR: 400 made-up source files and 12 binaries under DIR, the same ones every time."""
import os
import random
import sys

root = sys.argv[1]
rnd = random.Random(7)
for i in range(400):
    parts = [rnd.choice(["components", "lib", "pages", "hooks", "utils", "api"]) for _ in range(1 + i % 4)]
    folder = "%s/src/%s" % (root, "/".join(parts))
    os.makedirs(folder, exist_ok=True)
    with open("%s/Mod%03d.tsx" % (folder, i), "w") as file:
        for j in range(rnd.randrange(3, 120)):
            word = (rnd.randrange(9999), rnd.choice(["alpha", "beta", "gamma"]))
            file.write("export const v%d_%d = (x: number) => x * %d + %r;\n" % (i, j, *word))
os.makedirs(root + "/public", exist_ok=True)
for i in range(12):
    with open(root + "/public/img%02d.bin" % i, "wb") as file:
        file.write(rnd.randbytes(rnd.randrange(2000, 180000)))
