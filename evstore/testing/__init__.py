"""For the tests of control planes that embed evstore: is what they bring sound?"""

from .projections import check_projection
from .upcasters import check_upcaster

__all__ = ["check_projection", "check_upcaster"]
