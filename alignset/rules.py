"""The classes of rules, for files of rules of your own: docs/rules.md."""

from alignset.transforms.rules.custom import rule as rule
from alignset.transforms.rules.rule import Limit as Limit
from alignset.transforms.rules.rule import Measure as Measure
from alignset.transforms.rules.rule import Rows as Rows
from alignset.transforms.rules.rule import Stage as Stage
