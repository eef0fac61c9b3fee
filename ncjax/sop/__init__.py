"""Training with noisy labels by sparse over-parameterisation (SOP, 2202.14026)."""

from ncjax.sop import linear as linear
from ncjax.sop.issues import label_issues as label_issues
from ncjax.sop.issues import noise_rate as noise_rate
from ncjax.sop.noise import Noise as Noise
from ncjax.sop.noise import init as init
from ncjax.sop.noise import loss as loss
from ncjax.sop.noise import updated as updated
from ncjax.sop.rates import Rates as Rates
from ncjax.sop.rates import activation_epochs as activation_epochs
from ncjax.sop.rates import check_activation as check_activation
from ncjax.sop.rates import suggested as suggested
