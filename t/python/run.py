"""One rank of t/python.sh: runs the tests beside this, all ranks the same ones in the same order, and prints a line for
each: ok, skip or bad, its name, and why."""

import os
import sys
import unittest


class Lines(unittest.TestResult):
    def say(self, word, test, why=""):
        name = f"rank {os.environ['SYMM_RANK']}: {test.id() if hasattr(test, 'id') else test}"
        print(f"{word}\t{name}\t{why}", flush=True)

    def addSuccess(self, test):
        self.say("ok", test)

    def addSkip(self, test, reason):
        self.say("skip", test, reason)

    def add_failure(self, test, error):
        self.say("bad", test, self._exc_info_to_string(error, test).strip().replace("\n", "\\n"))
        super().addFailure(test, error)

    addFailure = addError = add_failure

    def addSubTest(self, test, subtest, error):
        if error is not None:
            self.add_failure(subtest, error)


if __name__ == "__main__":
    tests = unittest.defaultTestLoader.discover(os.path.dirname(os.path.abspath(__file__)))
    result = Lines()
    tests.run(result)
    print(f"end\t{result.testsRun}", flush=True)
    sys.exit(not result.wasSuccessful())
