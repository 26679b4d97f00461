dist_bin_SCRIPTS = scripts/symmrun
EXTRA_DIST += scripts/lua2c.sh scripts/man2html.sh scripts/deps.sh scripts/quickstart scripts/check scripts/lint .ci/run
