"""One test for several models: those of providers that speak different dialects."""

import functools
import inspect


def for_each(*models):
    """A test method with a model as its argument, run with each; failures name theirs."""

    def decorate(test):
        if inspect.iscoroutinefunction(test):

            @functools.wraps(test)
            async def run(self):
                for model in models:
                    with self.subTest(model):
                        await test(self, model)
        else:

            @functools.wraps(test)
            def run(self):
                for model in models:
                    with self.subTest(model):
                        test(self, model)

        # Else pytest looks for a fixture of the argument's name.
        del run.__wrapped__
        return run

    return decorate
